"""A viewer and a keeper around a command without a container: what goes between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mount_tools.container.attach_messages import Ended
from mount_tools.container.viewer import Detached, Lost, status_of
from tests.helpers.mounts import DEADLINE, helper_environment
from tests.helpers.processes import ending
from tests.helpers.terminals import Terminal, terminal

KEPT = (sys.executable, "-m", "tests.helpers.kept")


@contextmanager
def shown(script: str, ours: Terminal, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*KEPT, "terminal", script, *words],
        stdin=ours.program,
        stdout=ours.program,
        stderr=ours.program,
        env=helper_environment(),
    )
    with ending(process):
        yield process


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Ended(7), 7),
        (Detached(by_keys=True), 0),
        (Detached(by_keys=False), 129),
        (Lost(), 137),
    ],
)
def test_how_a_viewing_ended_is_an_exit_status(
    outcome: Ended | Detached | Lost, status: int
) -> None:
    assert status_of(outcome, lambda: 137) == status


def test_much_is_carried_both_ways() -> None:
    """More than any kernel keeps, to a reader that is slow to begin; and all said at the end."""
    size = 200_000
    script = f"stty raw -echo; echo ready; head -c {size} | cksum; yes end | head -n 20000"
    sum_of_zeros = subprocess.run(
        ["cksum"], input=b"x" * size, stdout=subprocess.PIPE, check=True
    ).stdout
    with terminal() as ours, shown(script, ours) as process:
        ours.await_text(b"ready\n")
        ours.type(b"x" * size)
        assert ours.await_text(b"\n") == sum_of_zeros
        ours.await_text(b"end\n" * 20000)
        assert process.wait(DEADLINE) == 0


def test_pipes_carry_any_bytes_and_their_end() -> None:
    data = os.urandom(3_000_000)
    done = subprocess.run(
        [*KEPT, "pipes", "cat; echo over >&2; exit 4"],
        input=data,
        capture_output=True,
        env=helper_environment(),
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (4, b"over\n")
    assert done.stdout == data


def test_input_that_another_process_took_is_not_the_end_of_input() -> None:
    """Of a stdin that is non-blocking and shared, as that of a shell's script may be."""
    program = """
import os, sys
from tests.helpers import kept

read, taken = os.read, iter([True])

def late(fd, size):
    if fd == 0 and next(taken, False):
        raise BlockingIOError
    return read(fd, size)

os.read = late
sys.exit(kept.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "pipes", "cat"],
        input=b"what is left",
        capture_output=True,
        env=helper_environment(),
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"what is left"), done.stderr


def test_ours_is_raw_meanwhile_and_as_before_afterwards() -> None:
    with terminal() as ours:
        before = ours.settings()
        with shown("echo ready; read line; exit 7", ours) as process:
            ours.await_text(b"ready\r\n")
            assert ours.settings() != before
            ours.type(b"\r")
            assert process.wait(DEADLINE) == 7
        assert ours.settings() == before
        with shown("sleep 1", ours, "fail") as process:
            assert process.wait(DEADLINE) == 9
        assert ours.settings() == before


def test_the_end_of_stdin_is_not_the_end_of_a_terminal() -> None:
    done = subprocess.run(
        [*KEPT, "terminal", "tty -s && echo said; exit 3"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=helper_environment(),
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, b"said\r\n")


@pytest.mark.parametrize(("kind", "status"), [("terminal", 5), ("pipes", 141)])
def test_a_reader_that_went_is_sigpipe_in_a_pipe_and_nothing_to_a_terminal(
    kind: str, status: int
) -> None:
    script = "trap 'exit 6' INT; yes | head -c 3000000; exit 5"
    if kind == "pipes":
        script = "exec yes"
    process = subprocess.Popen(
        [*KEPT, kind, script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=helper_environment(),
    )
    with ending(process):
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(DEADLINE) == status


@pytest.mark.parametrize(("script", "status"), [("echo hi", 1), ("echo hi; exit 5", 5)])
def test_output_that_cannot_be_written_is_said(script: str, status: int) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*KEPT, "pipes", script],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=helper_environment(),
            timeout=DEADLINE,
            check=False,
        )
    said = b"the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (status, said)


def test_the_keys_leave_the_command_running() -> None:
    with terminal() as ours:
        before = ours.settings()
        script = "trap '' HUP; echo ready; read line; echo got $line; sleep 5; exit 9"
        with shown(script, ours, "keys") as process:
            ours.await_text(b"ready\r\n")
            ours.type(b"a\n")
            ours.await_text(b"got a\r\n")
            ours.type(b"\x10\x11")
            assert process.wait(DEADLINE) == 0, "not 9: the command ends later, unseen"
        assert ours.settings() == before


def test_what_we_ignore_is_not_passed_on_and_all_else_is() -> None:
    """As under nohup(1): it means all that is run."""
    script = (
        "trap 'echo hup' HUP; trap 'echo usr; exit 5' USR1; echo up; while :; do sleep 0.02; done"
    )
    process = subprocess.Popen(
        [*KEPT, "pipes", script],
        env=helper_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    with ending(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)
        assert (process.stdout.read(), process.wait(DEADLINE)) == ("usr\n", 5)
