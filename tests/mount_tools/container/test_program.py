"""Programs of an image: the same as execve(2) runs, and never our own interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mount_tools.container.program import own_interpreter, run_program
from tests.helpers.children import spawn, wait
from tests.helpers.effort import examples
from tests.helpers.mounts import DEADLINE, helper_environment

OWN = os.path.realpath(sys.executable)


def ran(path: str, *words: str, cwd: Path | None = None) -> tuple[int, str]:
    """Run a program as containers do; return its exit status and what it says, or the error."""
    script = (
        "import sys\n"
        "from mount_tools.container.program import run_program\n"
        "try:\n"
        "    run_program(sys.argv[1], tuple(sys.argv[2:]), {'A': 'b'})\n"
        "except OSError as error:\n"
        "    print(error.strerror)\n"
        "    sys.exit(100 + error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path, *words],
        capture_output=True,
        text=True,
        env=helper_environment(),
        cwd=cwd,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stdout


def executable(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o755)
    return path


SHOW = '#!/bin/sh\nfor word in "$0" "$@"; do echo "[$word]"; done\n'


@pytest.fixture
def show(tmp_path: Path) -> Path:
    """A script that says what words it was run with."""
    return executable(tmp_path / "show", SHOW)


@pytest.mark.parametrize(
    "line",
    [
        "#!{show}",
        "#! \t {show} \t ",
        "#!{show} one two  ",
        "#!{show}\tone\ttwo",
        "#!{show} -x\0y",
        "#!{show}\n#!/nosuch",
        "#!/nosuch",
        "#!",
        "#!   ",
        "#!/" + "x" * 300,
        "#!{show} " + "x" * 300,
        "no script",
        "",
    ],
)
def test_a_script_runs_as_the_kernel_runs_it(show: Path, tmp_path: Path, line: str) -> None:
    script = executable(tmp_path / "script", line.format(show=show) + "\n")
    # Not through a shell or execvp(3), which run what has no #! line themselves.
    kernel = (
        "import os, sys\n"
        "try:\n"
        "    os.execve(sys.argv[1], sys.argv[2:], {'A': 'b'})\n"
        "except OSError as error:\n"
        "    print(error.strerror)\n"
        "    sys.exit(100 + error.errno)\n"
    )
    words = [str(script), "zero", "a b", "c"]
    done = subprocess.run(
        [sys.executable, "-c", kernel, *words], capture_output=True, text=True, check=False
    )
    assert ran(*words) == (done.returncode, done.stdout)


def test_scripts_of_scripts_end_somewhere(show: Path, tmp_path: Path) -> None:
    last = show
    for depth in range(8):
        last = executable(tmp_path / f"script{depth}", f"#!{last}\n")
    status, said = ran(str(tmp_path / "script2"), "zero", "end")
    expected = [show, *(tmp_path / f"script{depth}" for depth in range(3)), "end"]
    assert (status, said) == (0, "".join(f"[{word}]\n" for word in expected))
    assert ran(str(last), "zero")[1] == "Too many levels of symbolic links\n"
    loop = tmp_path / "loop"
    executable(loop, f"#!{loop}\n")
    assert ran(str(loop), "loop")[1] == "Too many levels of symbolic links\n"


def test_links_and_relative_paths_lead_to_programs(show: Path, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/up").symlink_to("../../absolute")
    (tmp_path / "absolute").symlink_to(show)
    (tmp_path / "dir").symlink_to("a/b")
    assert ran(str(tmp_path / "dir/up"), "0") == (0, f"[{tmp_path}/dir/up]\n")
    assert ran("dir/../show", "0", cwd=tmp_path / "a" / "..") == ran("a/show", "0", cwd=tmp_path)
    assert ran("./dir/up", "0", cwd=tmp_path) == (0, "[./dir/up]\n")
    (tmp_path / "self").symlink_to("self")
    assert ran(str(tmp_path / "self"), "0")[1] == "Too many levels of symbolic links\n"
    for directory in ("/", ".", "dir", "dir/.."):
        assert ran(directory, "0", cwd=tmp_path)[1] == "Permission denied\n"


def test_the_program_has_its_own_name(tmp_path: Path) -> None:
    """As ps(1) and pidof(8) show it, which a program run by a descriptor has not."""
    shutil.copy(shutil.which("cat") or "/bin/cat", tmp_path / "kitten")
    (tmp_path / "link").symlink_to("kitten")
    assert ran(str(tmp_path / "kitten"), "0", "/proc/self/comm") == (0, "kitten\n")
    assert ran(str(tmp_path / "kitten"), "0", "/proc/self/environ") == (0, "A=b\0")


def test_a_fifo_or_a_device_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o755)
    assert ran(str(tmp_path / "fifo"), "fifo")[1] == "Permission denied\n"
    assert ran("/dev/null", "null")[1] == "Permission denied\n"
    script = executable(tmp_path / "script", f"#!{tmp_path}/fifo\n")
    assert ran(str(script), "script")[1] == "Permission denied\n"


def test_a_script_that_may_not_be_executed_is_not(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(SHOW)
    assert ran(str(tmp_path / "script"), "0")[1] == "Permission denied\n"


@pytest.mark.parametrize("path", [OWN, "/proc/self/exe", "/proc/thread-self/exe"])
def test_our_interpreter_is_refused(path: str, tmp_path: Path) -> None:
    said = "it is PyUnion's own interpreter\n"
    assert ran(path, "python", "-c", "print('ran')")[1] == said
    (tmp_path / "link").symlink_to(path)
    os.link(tmp_path / "link", tmp_path / "other", follow_symlinks=False)
    assert ran(str(tmp_path / "other"), "python", "-c", "print('ran')")[1] == said
    script = executable(tmp_path / "script", f"#!{path} -c\n")
    assert ran(str(script), "script")[1] == said


def swapping(path: Path, *makes: Callable[[Path], object]) -> Callable[[], None]:
    """Return what exchanges the file at `path` without end for what each of `makes` makes."""

    def swap() -> None:
        while True:
            for at, make in enumerate(makes):
                new = path.with_name(f"{path.name}-{at}")
                make(new)
                os.rename(new, path)

    return swap


@pytest.mark.slow
@pytest.mark.parametrize("as_interpreter", [False, True], ids=["program", "interpreter"])
def test_a_swapper_does_not_get_our_interpreter_to_run(
    as_interpreter: bool, tmp_path: Path
) -> None:
    """The file is a harmless program in one moment and leads to our interpreter in the next."""
    racy = tmp_path / "racy"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o755)
    harmless = shutil.which("true") or "/bin/true"
    swap = swapping(
        racy,
        lambda new: new.symlink_to(harmless),
        lambda new: new.symlink_to("/proc/self/exe"),
        lambda new: shutil.copy(harmless, new),
        lambda new: executable(new, "#!/proc/self/exe\n"),
        lambda new: os.link(fifo, new),
    )
    path = executable(tmp_path / "script", f"#!{racy}\n") if as_interpreter else racy
    racy.symlink_to(harmless)
    own_interpreter()
    swapper = spawn(swap)
    outcomes = set()
    try:
        for _ in range(examples(200)):
            outcomes.add(wait(spawn(lambda: attempt(str(path)))))
    finally:
        os.kill(swapper, 9)
        wait(swapper)
    # 42 is what the interpreter would exit with; every other end is a harmless one.
    assert 42 not in outcomes
    assert {0, 7} <= outcomes, "neither side won; the race was none"


def attempt(path: str) -> None:
    try:
        run_program(path, ("python", "-c", "import os; os._exit(42)"), {})
    except OSError:
        os._exit(7)
