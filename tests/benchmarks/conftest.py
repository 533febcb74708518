"""Results made by hand, for what is computed and drawn of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.results import Results, Series
from benchmarks.stores import workspace
from benchmarks.workload import Row

FIGURES: dict[str, dict[str, Series]] = {
    "find": {
        "overlayfs": Series([2.0, 1.0, 4.0]),
        "pyunion-uring": Series([3.0, 3.0, 3.0], cpu_ms=[2.0, 9.0, 1.0]),
        "fuse-overlayfs": Series([6.0, 6.0, 6.0], cpu_ms=[5.0, 5.0, 5.0]),
        "mergerfs": Series([8.0, 8.0, 8.0], cpu_ms=[4.0, 4.0, 4.0]),
    },
    "touch": {
        "overlayfs": Series([10.0]),
        "pyunion-uring": Series([20.0]),
        "fuse-overlayfs": Series(failed="it <hung> & died"),
        "mergerfs": Series(not_applicable="it has no copy-on-write"),
    },
    "mount": {
        "overlayfs": Series([1.0]),
        "pyunion-uring": Series([100.0]),
        "fuse-overlayfs": Series([5.0]),
        "mergerfs": Series([5.0]),
    },
}


@pytest.fixture
def results() -> Results:
    made = Results(subjects=list(FIGURES["find"]), about={"scale": "by hand"})
    for name, figures in FIGURES.items():
        made.rows[name] = Row(name=name, title=name, how="by hand", in_mean=name != "mount")
        made.series[name] = figures
    return made


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short name, as podman and dockerd want theirs."""
    with workspace("pu-", None) as base:
        yield base
