"""From a fork to execve(2): what a command begins with, and how it is told that it cannot.

On the machine's own root: where that lies makes no difference here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mount_tools.container.handshake import CANNOT_INVOKE, NOT_FOUND, REFUSED
from mount_tools.container.process import PATH
from tests.helpers.mounts import DEADLINE, helper_environment, require_root
from tests.helpers.signal_masks import signal_masks

SCRIPT = """
import json, os, signal, sys
from mount_tools.container.handshake import CannotStart, Running, Silence, channel
from mount_tools.container.process import Launch, in_child, restrict, run_command
words, environment, directory, user, restricted = json.loads(sys.argv[1])
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
ours, theirs = channel()
proc = os.open("/proc", os.O_PATH)
outer = os.fork()
if outer == 0:
    ours.close()
    def work():
        if restricted:
            restrict()
        launch = Launch(tuple(words), tuple(environment), directory, user)
        child = run_command(launch, None, theirs, proc)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code & 255)
    in_child(work, theirs)
theirs.close()
ours.watch(outer)
try:
    ours.expect(Running)
except CannotStart as error:
    print(error.status, error, file=sys.stderr, end="")
except Silence:
    print("silence", file=sys.stderr, end="")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(outer, 0)[1]))
"""


def launched(
    *words: str,
    environment: tuple[str, ...] = (),
    directory: str = "/",
    user: str = "",
    restricted: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command; stderr has what was reported, after what it said itself."""
    require_root()
    launch = json.dumps([words, environment, directory, user, restricted])
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, launch],
        env=helper_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_a_command_begins_with_its_own_environment_and_nothing_of_ours() -> None:
    done = launched("env", environment=("A=1", "B=", "A=2", "=x", "C"))
    assert sorted(done.stdout.splitlines()) == ["A=2", "B=", "C=", "HOME=/root", f"PATH={PATH}"]
    done = launched("env", environment=("PATH=/usr/bin", "HOME=/h"))
    assert sorted(done.stdout.splitlines()) == ["HOME=/h", "PATH=/usr/bin"]


def test_a_command_begins_in_its_directory_and_as_its_user(tmp_path: Path) -> None:
    wanted = tmp_path / "not/there"
    done = launched("sh", "-c", "pwd; umask; id -u; id -g; id -G", directory=str(wanted))
    assert done.stdout.splitlines() == [str(wanted), "0022", "0", "0", "0"]
    done = launched("sh", "-c", "id -u; id -g; id -G", user="1234:56")
    assert done.stdout.splitlines() == ["1234", "56", "56"]


def test_a_command_ignores_no_signal() -> None:
    status = launched("cat", "/proc/self/status").stdout.splitlines()
    assert signal_masks(status)["SigIgn"] == 0
    assert launched("sh", "-c", "kill -USR1 $$").returncode == 256 - signal.SIGUSR1


def test_a_command_has_the_capabilities_of_a_container_and_no_others() -> None:
    lines = launched("cat", "/proc/self/status", restricted=True).stdout.splitlines()
    found = {line.split()[0]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}
    assert found["CapBnd:"] == found["CapEff:"] == found["CapPrm:"] == 0xA00425FB
    assert found["CapInh:"] == 0


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ((), REFUSED, "No command specified"),
        (("nosuch",), NOT_FOUND, 'exec: "nosuch": executable file not found in $PATH'),
        (("/nosuch",), NOT_FOUND, 'exec: "/nosuch": No such file or directory'),
        (("/etc/passwd/x",), NOT_FOUND, 'exec: "/etc/passwd/x": Not a directory'),
        (("/no\nsuch",), NOT_FOUND, r'exec: "/no\nsuch": No such file or directory'),
        (("/etc",), CANNOT_INVOKE, 'exec: "/etc": Permission denied'),
        (("/etc/passwd",), CANNOT_INVOKE, 'exec: "/etc/passwd": Permission denied'),
    ],
)
def test_one_that_cannot_be_run(words: tuple[str, ...], status: int, says: str) -> None:
    done = launched(*words)
    assert (done.returncode, done.stderr) == (status, f"{status} {says}")


def test_one_that_may_not_begin_there(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    done = launched("true", directory=str(tmp_path), user="1234")
    assert done.returncode == REFUSED
    assert f"the working directory {tmp_path} cannot be used: Permission denied" in done.stderr
    done = launched("true", user="nobody-of-that-name")
    assert done.returncode == REFUSED and "nobody-of-that-name" in done.stderr


def test_a_working_directory_as_deep_as_a_path_can_be_is_made(tmp_path: Path) -> None:
    deep = f"{tmp_path}{'/d' * 1900}"
    try:
        assert launched("true", directory=deep).returncode == 0
        assert os.path.isdir(deep)
        longer = launched("true", directory=f"{tmp_path}{'/d' * 2100}")
        assert longer.returncode == REFUSED and "File name too long" in longer.stderr
    finally:
        # Too deep for shutil.rmtree, and so for pytest.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_the_first_of_path_that_can_be_run_is(tmp_path: Path) -> None:
    for name, mode in (("first", 0o644), ("second", 0o755), ("third", 0o755)):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "program"
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(mode)
    folders = ":".join(str(tmp_path / name) for name in ("nosuch", "first", "second", "third"))
    assert launched("program", environment=(f"PATH={folders}",)).stdout == "second\n"
    (tmp_path / "second/program").unlink()
    (tmp_path / "third/program").unlink()
    done = launched("program", environment=(f"PATH={folders}",))
    assert (done.returncode, done.stderr) == (126, '126 exec: "program": Permission denied')


def test_our_own_interpreter_is_not_run_however_it_is_called(tmp_path: Path) -> None:
    """The process that runs it could be written through; see CVE-2019-5736."""
    own = os.path.realpath(sys.executable)
    (tmp_path / "link").symlink_to(own)
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text(f"#!{own}\n")
    other.write_text(f"#!  {one} argument\n")
    for path in (one, other):
        path.chmod(0o755)
    for path in (Path(own), tmp_path / "link", one, other, Path("/proc/self/exe")):
        done = launched(str(path))
        assert done.returncode == CANNOT_INVOKE, path
        assert done.stderr.endswith("it is PyUnion's own interpreter"), path
