"""The direct transport, with io_uring and without."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator

import pytest

from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.layers import handmade_layers as handmade_layers
from tests.helpers.mounts import QUICK, require_fuse, require_root

# pyfuse3 is an extra; where every test must run, its absence is an error.
if importlib.util.find_spec("pyfuse3") is None and QUICK:
    collect_ignore = ["test_pyfuse3_answers.py", "test_pyfuse3_ops.py"]


@pytest.fixture(params=["off", "on"])
def io_uring(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield what to say to `-o io_uring=`; on is switched on for the machine meanwhile."""
    require_root()
    require_fuse()
    with io_uring_enabled() if request.param == "on" else contextlib.nullcontext():
        yield request.param


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_IDLE)
