"""Processes in a PID namespace of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn

import pytest

from mount_tools.build.process_namespace import forked_inside
from mount_tools.container.handshake import end_with
from tests.helpers.mounts import require_root


def fork(_: int, work: Callable[[], NoReturn]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return child


@pytest.mark.parametrize("of_root", [True, False])
def test_the_work_is_process_1_and_its_status_is_that_of_our_child(
    monkeypatch: pytest.MonkeyPatch, of_root: bool
) -> None:
    require_root()
    monkeypatch.setattr("mount_tools.build.process_namespace.is_machine_root", lambda: of_root)
    namespace = os.readlink("/proc/self/ns/pid_for_children")

    def work(parent: int) -> NoReturn:
        end_with(parent)
        os._exit(40 + os.getpid())

    def fork_all() -> NoReturn:
        _, status = os.waitpid(forked_inside(fork, work), 0)
        os._exit(os.waitstatus_to_exitcode(status))

    _, status = os.waitpid(fork(-1, fork_all), 0)
    assert os.waitstatus_to_exitcode(status) == 41
    assert os.readlink("/proc/self/ns/pid_for_children") == namespace


def test_all_that_it_started_is_dead_when_it_is() -> None:
    require_root()
    end, theirs = os.pipe()

    def work(parent: int) -> NoReturn:
        end_with(parent)
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(theirs, b"x")
            time.sleep(1000)
        signal.pause()
        os._exit(0)

    child = forked_inside(fork, work)
    os.close(theirs)
    try:
        assert os.read(end, 1) == b"x"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.set_blocking(end, False)
        assert os.read(end, 1) == b""
    finally:
        os.close(end)
