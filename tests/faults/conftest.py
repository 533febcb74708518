"""What the fault tests on the core share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.scenarios import Bench
from tests.helpers import trees
from tests.helpers.layers import handmade_layers as handmade_layers
from tests.helpers.mounts import require_root
from unionfs.core import ahead, setup, stage_ahead


class NoSyncs:
    """Stands for `Syncs`: everything is on disk at once."""

    def __init__(self, _most: int) -> None:
        self._ended: list[tuple[int, int]] = []

    def begin(self, files: list[tuple[int, int]]) -> int:
        self._ended += [(number, 0) for _, number in files]
        return len(files)

    def ended(self, _least: int) -> list[tuple[int, int]]:
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """There is nothing to wait for."""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Layers for `SCENARIOS`; fails where a test changed one of the lowers.

    Nothing is really written back: it is the process that dies here, not the
    machine, and waiting for the disk thousands of times would take minutes.
    """
    require_root()
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)
    monkeypatch.setattr(setup, "syncfs", lambda fd: None)
    monkeypatch.setattr(stage_ahead, "Syncs", NoSyncs)
    # A captured record would keep its exception, that the frames, and those their descriptors.
    logging.disable(logging.CRITICAL)
    monkeypatch.setattr(stage_ahead, "RUN", 0)
    # Whether a directory is waited for, so that others are read ahead, is up to the machine.
    monkeypatch.setattr(ahead, "BEGIN_NS", 1 << 62)
    monkeypatch.setattr(stage_ahead, "filesystem_type", lambda _fd: 0)  # also on a tmpfs
    old_umask = os.umask(0o022)
    bench = Bench.make(tmp_path)
    before = [trees.raw(lower) for lower in bench.lowers]
    yield bench
    os.umask(old_umask)
    logging.disable(logging.NOTSET)
    assert [trees.raw(lower) for lower in bench.lowers] == before, "a lower layer was changed"
