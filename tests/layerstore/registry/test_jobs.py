"""Which error of several threads is the one to report."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from layerstore.errors import DiskFull
from layerstore.registry.errors import Cancelled
from layerstore.registry.jobs import Stopped, raise_first


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
