"""How the command and the daemon part."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mount_tools.daemon.detach import detach
from mount_tools.daemon.report import Died, Failed, Live, Reporter
from tests.helpers.mounts import DEADLINE, helper_environment, wait_until
from tests.helpers.processes import ending

Detached = Callable[[str], subprocess.Popen[bytes]]

SCRIPT = textwrap.dedent("""
    import os, signal, sys, time
    from mount_tools.daemon.detach import Outcome, run_detached
    directory = sys.argv[1]
    def note(name, text=""):
        with open(os.path.join(directory, name + "~"), "w") as file:
            file.write(text)
        os.rename(os.path.join(directory, name + "~"), os.path.join(directory, name))
    def await_file(name):
        end = time.monotonic() + 20
        while not os.path.exists(os.path.join(directory, name)) and time.monotonic() < end:
            time.sleep(0.005)
    def serve(live):
    {body}
    print(tuple(run_detached(serve)), flush=True)
""")


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Detached]:
    """What starts a process that calls run_detached(serve) and prints the outcome.

    It is given the body of `serve(live)`, which may use `directory`.
    """
    with ExitStack() as stack:

        def start(body: str) -> subprocess.Popen[bytes]:
            script = SCRIPT.replace("{body}", textwrap.indent(textwrap.dedent(body), "    "))
            process = subprocess.Popen(
                [sys.executable, "-c", script, tmp_path],
                env=helper_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            return stack.enter_context(ending(process))

        yield start


def said(process: subprocess.Popen[bytes]) -> str:
    out, _ = process.communicate(timeout=DEADLINE)
    return out.decode().strip()


def test_the_command_goes_on_when_the_mount_is_live(detached: Detached, tmp_path: Path) -> None:
    process = detached(
        """
        live()
        await_file("go")
        note("served", f"{os.getcwd()} {os.getpid() == os.getsid(0)}")
        return Outcome(0)
        """
    )
    # The end of stdout comes though the daemon lives on.
    assert said(process) == "(0, '')"
    assert not (tmp_path / "served").exists()
    (tmp_path / "go").touch()
    wait_until((tmp_path / "served").exists, "the daemon to go on")
    assert (tmp_path / "served").read_text() == "/ True"


def test_a_failure_reaches_the_command(detached: Detached, tmp_path: Path) -> None:
    process = detached("return Outcome(32, 'no, since \\udcff é')")
    assert said(process) == r"(32, 'no, since \udcff é')"


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9"),
        ("os._exit(7)", "ended with status 7"),
        ("raise SystemExit(3)", "ended with status 4"),
    ],
)
def test_a_daemon_that_dies_is_not_waited_for(detached: Detached, body: str, how: str) -> None:
    assert f"(2, 'the daemon {how} before the mount was live" in said(detached(body))


def test_a_daemon_that_ends_well_without_a_mount_is_a_failure(detached: Detached) -> None:
    """A signal can end a mount before it is live; the command must not say that it is."""
    assert said(detached("return Outcome(0)")) == "(32, 'the mount was ended before it was live')"


def test_a_daemon_whose_command_was_killed_hears_of_it(detached: Detached, tmp_path: Path) -> None:
    process = detached(
        """
        note("begun")
        await_file("go")
        try:
            live()
        except BrokenPipeError:
            note("alone")
        return Outcome(0)
        """
    )
    wait_until((tmp_path / "begun").exists, "the daemon to begin")
    process.send_signal(signal.SIGKILL)
    process.wait(DEADLINE)
    (tmp_path / "go").touch()
    wait_until((tmp_path / "alone").exists, "the daemon to notice")
    assert said(process) == ""


def test_ctrl_c_ends_the_daemon_too(detached: Detached, tmp_path: Path) -> None:
    process = detached(
        """
        import trio
        async def until_signal():
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                note("begun")
                async for number in signals:
                    return
        trio.run(until_signal)
        note("ended")
        return Outcome(0)
        """
    )
    wait_until((tmp_path / "begun").exists, "the daemon to begin")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert b"KeyboardInterrupt" in err
    assert (tmp_path / "ended").exists()


def test_descriptors_but_the_kept_ones_are_closed(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from mount_tools.daemon.detach import Outcome, run_detached\n"
        "a = os.open('/', os.O_RDONLY); b = os.dup(a); c = os.dup(a)\n"
        "def serve(live):\n"
        "    fds = sorted(map(int, os.listdir('/proc/self/fd')))\n"
        "    return Outcome(1, repr([fd in fds for fd in (a, b, c)]))\n"
        "print(run_detached(serve, keep=b).message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=helper_environment(),
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    )
    # The listing itself has the lowest free number, which is a's.
    assert done.stdout in (b"[True, True, False]\n", b"[False, True, False]\n")


def test_standard_descriptors_are_opened_where_they_are_closed() -> None:
    script = (
        "import os\n"
        "os.closerange(0, 3)\n"
        "from mount_tools.daemon.detach import keep_standard_fds\n"
        "keep_standard_fds()\n"
        "os._exit(0 if all(os.readlink(f'/proc/self/fd/{n}') == '/dev/null' for n in range(3))\n"
        "         and not os.path.exists('/proc/self/fd/3') else 1)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], env=helper_environment(), timeout=DEADLINE, check=True
    )


def test_open_standard_descriptors_stay() -> None:
    from mount_tools.daemon.detach import keep_standard_fds

    before = [os.fstat(fd).st_ino for fd in range(3)], len(os.listdir("/proc/self/fd"))
    keep_standard_fds()
    assert ([os.fstat(fd).st_ino for fd in range(3)], len(os.listdir("/proc/self/fd"))) == before


def test_the_report_of_any_work(tmp_path: Path) -> None:
    def failing(reporter: Reporter) -> int:
        reporter.live()
        reporter.failed(126, f"in {os.getcwd()}")
        return 0

    def living(reporter: Reporter) -> int:
        reporter.live()
        return 0

    assert detach(failing) == Failed(126, "in /")
    assert detach(living) == Live()
    assert detach(lambda reporter: 5) == Died("ended with status 5")
