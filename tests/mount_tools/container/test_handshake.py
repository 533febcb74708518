"""The messages between the runner and the processes inside, and what silence means."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import pytest

from mount_tools.container.handshake import (
    Begun,
    CannotStart,
    Channel,
    Failed,
    Recorded,
    Running,
    Silence,
    Terminal,
    channel,
    end_with,
    has_executed,
    report_failure,
)
from tests.helpers.children import spawn, wait


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = channel()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_each_message_arrives_as_it_was_sent(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    for message in (Begun(1 << 22), Recorded(), Running()):
        theirs.send(message)
    assert ours.expect(Begun) == Begun(1 << 22)
    assert ours.expect(Recorded) == Recorded()
    assert ours.expect(Running) == Running()


def test_a_terminal_comes_as_a_descriptor_of_ours(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    reading, writing = os.pipe()
    theirs.send(Terminal(writing))
    os.close(writing)
    received = ours.expect(Terminal).fd
    assert not os.get_inheritable(received)
    with open(received, "wb") as pipe:
        pipe.write(b"x")
    assert os.read(reading, 2) == b"x"
    os.close(reading)


def test_failure_is_told_whatever_was_expected(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.send(Failed(127, "exec: \udcff: not found" + "x" * 10_000))
    with pytest.raises(CannotStart, match="exec: \udcff: not found") as caught:
        ours.expect(Running)
    assert caught.value.status == 127


def test_another_message_than_expected_is_a_bug(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.send(Recorded())
    with pytest.raises(RuntimeError, match=r"Recorded.* came where Running"):
        ours.expect(Running)


def test_a_closed_end_is_silence() -> None:
    ours, theirs = channel()
    theirs.close()
    with pytest.raises(Silence):
        ours.expect(Running)
    with pytest.raises(Silence):
        ours.send(Recorded())
    report_failure(ours, 125, "nobody hears it")
    ours.close()


def test_a_dead_child_is_silence_though_others_have_its_end_open(
    ends: tuple[Channel, Channel],
) -> None:
    """But what it said before its end counts."""
    ours, theirs = ends
    child = spawn(lambda: theirs.send(Recorded()))
    ours.watch(child)
    assert wait(child) == 0
    assert ours.expect(Recorded) == Recorded()
    with pytest.raises(Silence):
        ours.expect(Recorded)


def test_the_end_of_a_child_is_waited_for(ends: tuple[Channel, Channel]) -> None:
    ours, _ = ends
    wait_on, end_it = os.pipe()

    def until_told() -> None:
        os.close(end_it)
        os.read(wait_on, 1)

    child = spawn(until_told)
    ours.watch(child)
    ours.raise_failure()
    ender = Timer(0.05, os.close, (end_it,))
    ender.start()
    with pytest.raises(Silence):
        ours.raise_failure(60)
    ender.join()
    os.close(wait_on)
    assert wait(child) == 0


def _kill_ourselves() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run_another_program() -> None:
    os.execvp("true", ["true"])


def _end_with_an_error() -> None:
    os._exit(3)


@pytest.mark.parametrize("proc", [Path("/proc"), None])
@pytest.mark.parametrize(
    ("does", "executed"), [(_kill_ourselves, False), (_run_another_program, True)]
)
def test_only_execve_counts_as_running(
    does: Callable[[], None], executed: bool, proc: Path | None, tmp_path: Path
) -> None:
    """Also where /proc does not show the child."""
    fd = os.open(proc or tmp_path, os.O_PATH)
    held, hold = os.pipe()
    child = spawn(does)
    os.close(hold)
    assert os.read(held, 1) == b""
    if proc is None:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert has_executed(fd, child) is executed
    finally:
        wait(child)
        os.close(held)
        os.close(fd)


def test_a_child_that_gave_up_by_itself_has_not_executed() -> None:
    fd = os.open("/proc", os.O_PATH)
    child = spawn(_end_with_an_error)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not has_executed(fd, child)
    wait(child)
    os.close(fd)


def test_a_child_that_its_parent_waits_for_meanwhile_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fd = os.open("/proc", os.O_PATH)
    child = spawn(lambda: None)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    really_open = os.open

    def opened(path: str, flags: int, *, dir_fd: int) -> int:
        found = really_open(path, flags, dir_fd=dir_fd)
        wait(child)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", opened)
        with pytest.raises(ChildProcessError):
            has_executed(fd, child)
    os.close(fd)


def test_a_process_whose_parent_has_ended_ends() -> None:
    """The kernel's signal comes only to one that asked for it before."""
    ended = spawn(lambda: None)
    pidfd = os.pidfd_open(ended)
    wait(ended)
    with pytest.raises(ChildProcessError):
        os.waitpid(ended, 0)

    def late() -> None:
        with pytest.raises(Silence):
            end_with(pidfd)

    assert wait(spawn(late)) == 0
    os.close(pidfd)


def test_no_message_is_mistaken_for_the_end() -> None:
    """recv(2) returns nothing for an end, so no message may be empty."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for message in (Recorded(), Running(), Begun(0), Failed(125, "")):
        Channel(theirs).send(message)
        assert ours.recv(100)
    ours.close()
    theirs.close()


def test_why_the_other_end_is_closed_is_told_to_one_who_sends() -> None:
    ours, theirs = channel()
    theirs.send(Recorded())
    theirs.send(Failed(126, "no"))
    theirs.close()
    with pytest.raises(CannotStart, match="no"):
        ours.send(Recorded())
    ours.close()


def test_the_end_of_the_channel_is_an_execve_only_if_the_child_has_executed() -> None:
    def end_of(work: Callable[[Channel], None]) -> str:
        ours, theirs = channel()
        child = os.fork()
        if child == 0:
            ours.close()
            work(theirs)
            os._exit(3)
        theirs.close()
        ours.watch(child)
        try:
            ours.wait_for_execve(child)
            return "executed"
        except CannotStart as error:
            return f"failed: {error}"
        except Silence:
            return "silence"
        finally:
            wait(child)
            ours.close()

    assert end_of(lambda theirs: _run_another_program()) == "executed"
    assert end_of(lambda theirs: None) == "silence"
    assert end_of(lambda theirs: _kill_ourselves()) == "silence"
    assert end_of(lambda theirs: theirs.send(Failed(127, "no such file"))) == "failed: no such file"


@pytest.mark.parametrize(("status", "executed"), [(0, True), (3, True), (137, False)])
def test_a_command_for_which_another_process_has_waited(status: int, executed: bool) -> None:
    """As that of an ordinary user without an init: only the end of the outer process says it."""
    ours, theirs = channel()
    outer = os.fork()
    if outer == 0:
        os._exit(status)
    try:
        ours.watch(outer)
        theirs.close()
        gone = os.fork()
        if gone == 0:
            os._exit(0)
        os.waitpid(gone, 0)
        if executed:
            ours.wait_for_execve(gone)
        else:
            with pytest.raises(Silence):
                ours.wait_for_execve(gone)
    finally:
        ours.close()
        os.waitpid(outer, 0)
