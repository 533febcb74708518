"""Requests on worker threads."""

from __future__ import annotations

import os
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


def test_a_worker_runs_on_all_cpus_whoever_starts_it() -> None:
    """The thread that takes requests may be pinned to the CPU of its client."""
    deferred = Deferred()
    everywhere, found = os.sched_getaffinity(0), []

    def pinned() -> None:
        os.sched_setaffinity(0, {min(everywhere)})
        deferred.submit(1, PID, lambda: found.append(os.sched_getaffinity(0)))

    thread = threading.Thread(target=pinned)
    thread.start()
    thread.join()
    deferred.join()
    assert found == [everywhere]


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


class Recorded:
    """A job that waits for `answer`, and notes what is asked of it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.answer = threading.Event()
        self.calls: list[str] = []
        self.ended = threading.Event()
        self.given_up = threading.Event()

    def serve(self) -> None:
        self.begun.set()
        assert self.answer.wait(DEADLINE)

    def reply(self) -> None:
        self.calls.append("reply")
        self.ended.set()

    def give_up(self) -> None:
        self.calls.append("give_up")
        self.given_up.set()

    def take_back(self) -> None:
        self.calls.append("take_back")
        self.ended.set()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The pids that count as being killed."""
    pids: set[int] = set()
    monkeypatch.setattr(Caller, "is_ending", lambda self: self.pid in pids)
    return pids


def test_a_job_is_replied_to_when_it_is_done(killed: set[int]) -> None:
    deferred, job = Deferred(may_hang=True), Recorded()
    deferred.submit_job(2, PID, job)
    deferred.interrupt(2)  # by a signal that does not kill
    job.answer.set()
    assert job.ended.wait(DEADLINE)
    assert job.calls == ["reply"]
    deferred.join()


def test_a_job_whose_caller_is_killed_is_given_up_and_taken_back(killed: set[int]) -> None:
    deferred, job, other = Deferred(may_hang=True), Recorded(), Recorded()
    deferred.submit_job(2, PID, job)
    deferred.submit_job(4, PID + 1, other)
    assert job.begun.wait(DEADLINE)
    killed.add(PID)
    deferred.interrupt(2)
    assert job.given_up.wait(DEADLINE)
    assert not job.ended.is_set()
    job.answer.set()
    other.answer.set()
    assert job.ended.wait(DEADLINE)
    assert job.calls == ["give_up", "take_back"]
    assert other.ended.wait(DEADLINE)
    assert other.calls == ["reply"]
    deferred.join()


def test_an_interrupt_may_be_read_before_its_request(killed: set[int]) -> None:
    deferred, job = Deferred(may_hang=True), Recorded()
    killed.add(PID)
    deferred.interrupt(2)
    deferred.submit_job(2, PID, job)
    assert job.given_up.wait(DEADLINE)
    job.answer.set()
    deferred.join()


def test_an_interrupt_may_be_lost(killed: set[int]) -> None:
    """The kernel sends none for a request that a ring takes at that moment."""
    deferred, job = Deferred(may_hang=True), Recorded()
    killed.add(PID)
    deferred.submit_job(2, PID, job)
    assert job.given_up.wait(DEADLINE)
    job.answer.set()
    deferred.join()


def test_a_caller_that_cannot_be_seen_is_given_up_after_its_interrupt(killed: set[int]) -> None:
    deferred, job = Deferred(may_hang=True), Recorded()
    deferred.submit_job(2, 0, job)
    deferred.interrupt(2)
    assert job.given_up.wait(DEADLINE)
    job.answer.set()
    deferred.join()


def test_the_end_does_not_wait_for_what_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("unionfs.transports.deferred.PATIENCE_S", 0.05)
    deferred, job = Deferred(may_hang=True), Recorded()
    deferred.submit_job(2, PID, job)
    assert job.begun.wait(DEADLINE)
    deferred.join()
    assert "1 requests wait for a layer that does not answer" in caplog.text
    job.answer.set()
    assert job.ended.wait(DEADLINE)


def test_more_jobs_than_threads_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unionfs.transports.deferred.MOST_JOBS", 2)
    deferred = Deferred(may_hang=True)
    jobs = [Recorded() for _ in range(5)]
    for unique, job in enumerate(jobs):
        deferred.submit_job(unique, PID, job)
    assert jobs[0].begun.wait(DEADLINE)
    assert not jobs[4].begun.is_set()
    for job in jobs:
        job.answer.set()
    assert all(job.ended.wait(DEADLINE) for job in jobs)
    deferred.join()
