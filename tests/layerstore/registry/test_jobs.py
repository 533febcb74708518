"""How several threads end, and which of their errors is the one to report."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from layerstore.errors import DiskFull
from layerstore.registry.errors import Cancelled
from layerstore.registry.jobs import Stopped, finish, raise_first


def ended(error: BaseException | None) -> Future[int]:
    job: Future[int] = Future()
    if error is None:
        job.set_result(1)
    else:
        job.set_exception(error)
    return job


def test_the_cause_counts_and_not_what_it_stopped() -> None:
    waiting: Future[int] = Future()
    waiting.cancel()
    jobs = [ended(None), ended(Stopped()), waiting, ended(Cancelled("x")), ended(DiskFull("full"))]
    with pytest.raises(DiskFull):
        raise_first(jobs)
    with pytest.raises(Stopped):
        raise_first(jobs[:4])
    raise_first(jobs[:1])


def test_a_job_that_fails_ends_the_others() -> None:
    over, waiting = threading.Event(), threading.Event()

    def fails() -> None:
        waiting.wait()
        raise DiskFull("full")

    def waits() -> None:
        waiting.set()
        over.wait()

    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(waits), threads.submit(fails), threads.submit(fails)]
        finish(jobs, over.set)
    assert [job.cancelled() for job in jobs[:2]] == [False, False]
    with pytest.raises(DiskFull):
        raise_first(jobs)


def test_jobs_that_succeed_are_waited_for() -> None:
    given_up: list[bool] = []
    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(int, text) for text in "123"]
        finish(jobs, lambda: given_up.append(True))
    assert [job.result() for job in jobs] == [1, 2, 3] and not given_up


def test_an_interrupt_before_all_have_begun_ends_those_that_have() -> None:
    over = threading.Event()

    def begin(threads: ThreadPoolExecutor) -> Iterator[Future[bool]]:
        yield threads.submit(over.wait, 20)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as threads, pytest.raises(KeyboardInterrupt):
        finish(begin(threads), over.set)
    assert over.is_set()
