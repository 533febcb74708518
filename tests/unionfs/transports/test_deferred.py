"""Requests on worker threads."""

from __future__ import annotations

import threading

import pytest

from tests.helpers.mounts import DEADLINE
from unionfs.interrupts import Caller, stop_if_abandoned
from unionfs.transports.deferred import Deferred

PID = 1


def test_join_waits_for_every_request() -> None:
    deferred = Deferred()
    done: set[int] = set()
    for unique in range(100):
        deferred.submit(unique, PID, lambda unique=unique: done.add(unique))  # type: ignore[misc]
    deferred.join()
    assert done == set(range(100))


def test_a_slow_request_does_not_delay_the_next() -> None:
    deferred = Deferred()
    second = threading.Event()
    met: list[bool] = []
    deferred.submit(1, PID, lambda: met.append(second.wait(DEADLINE)))
    deferred.submit(2, PID, second.set)
    deferred.join()
    assert met == [True]


def test_an_interrupt_reaches_only_its_own_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed caller stops its request, not one of another caller."""
    monkeypatch.setattr(Caller, "is_killed", lambda self: self.interrupted)
    deferred = Deferred()
    begun, interrupted = threading.Barrier(3), threading.Event()
    ended: dict[int, str] = {}

    def serve(unique: int) -> None:
        begun.wait(DEADLINE)
        assert interrupted.wait(DEADLINE)
        try:
            stop_if_abandoned()
        except InterruptedError:
            ended[unique] = "stopped"
        else:
            ended[unique] = "finished"

    for unique in (1, 2):
        deferred.submit(unique, PID, lambda unique=unique: serve(unique))  # type: ignore[misc]
    begun.wait(DEADLINE)
    deferred.interrupt(1)
    deferred.interrupt(99)  # answered already
    interrupted.set()
    deferred.join()
    assert ended == {1: "stopped", 2: "finished"}


def test_a_failed_request_is_over() -> None:
    """Its unique, which the kernel may use again, is not interrupted by the old one."""
    deferred = Deferred()
    failed, seen = threading.Event(), []

    def fail() -> None:
        failed.set()
        raise RuntimeError("a bug")

    deferred.submit(7, PID, fail)
    assert failed.wait(DEADLINE)
    deferred.submit(8, PID, lambda: seen.append(8))
    deferred.join()
    deferred.interrupt(7)
    assert seen == [8]
