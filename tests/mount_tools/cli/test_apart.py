"""A command that is done by a child: its status is the child's, and signals end it always."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE, helper_environment, wait_until
from tests.helpers.processes import ending

_PROGRAM = """
import os, signal, sys, time
from mount_tools.cli.apart import in_a_child

def work():
    print(os.getpid(), flush=True)
    {work}

sys.exit(in_a_child(work))
"""


@contextmanager
def doing(work: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield the command that does `work`, and the pid of its child."""
    command = [sys.executable, "-c", _PROGRAM.format(work=work)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=helper_environment()
    )
    with ending(process):
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert child != process.pid
        try:
            yield process, child
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "status"),
    [("return 7", 7), ("os.kill(os.getpid(), signal.SIGUSR1); time.sleep(1000)", 138)],
)
def test_the_status_is_that_of_the_child(work: str, status: int) -> None:
    with doing(work) as (command, _):
        assert command.wait(DEADLINE) == status


def test_a_signal_is_passed_on_and_waited_for() -> None:
    work = "signal.signal(15, lambda *_: os._exit(5)); print(flush=True); time.sleep(1000)"
    with doing(work) as (command, _):
        assert command.stdout is not None
        command.stdout.readline()
        command.terminate()
        assert command.wait(DEADLINE) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_child_that_does_not_end_is_left_behind(number: signal.Signals) -> None:
    work = "signal.pthread_sigmask(signal.SIG_BLOCK, (2, 15)); print(flush=True); time.sleep(1000)"
    with doing(work) as (command, _):
        assert command.stdout is not None and command.stderr is not None
        command.stdout.readline()
        command.send_signal(number)
        assert command.wait(DEADLINE) == 128 + number
        assert command.stderr.readline().startswith(
            "Error: interrupted: the files of the container"
        )


def test_a_copy_whose_keeper_is_stopped_meanwhile_ends_by_ctrl_c(
    containers: Containers, tmp_path: Path
) -> None:
    containers.ok("run", "-d", "--name", "box", "busy:1", "sleep", "1000")
    keeper = containers.keeper("box")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # The copy waits for us at its second file, which then lies in the container.
    containers.ok("exec", "box", "sh", "-c", "for n in 0 1 2 3; do echo $n > /tmp/$n; done")
    with fifo.open("r+b", buffering=0) as reader, fifo.open("wb") as out:
        words = containers.command("cp", "box:/", "-")
        copy = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL)
        with ending(copy):
            assert reader.read(512)
            os.kill(keeper, signal.SIGSTOP)
            try:
                while not _child_waits_for_fuse(copy.pid):
                    os.set_blocking(reader.fileno(), False)
                    reader.read(4096)
                copy.send_signal(signal.SIGINT)
                assert copy.wait(DEADLINE) == 130
            finally:
                os.kill(keeper, signal.SIGCONT)
    wait_until(lambda: copy.pid not in containers.mine(), "the copy to be gone")
    containers.ok("rm", "-f", "box")


def _child_waits_for_fuse(pid: int) -> bool:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return any("request_wait_answer" in Path(f"/proc/{c}/wchan").read_text() for c in children)
