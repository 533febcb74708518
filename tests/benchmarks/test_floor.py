"""The floor: it is built, answers, and its rows are those of every subject."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import floor
from benchmarks.floor import Row
from benchmarks.subjects import BY_NAME, is_mounted
from tests.helpers.mounts import require_fuse


def test_a_floor_answers_and_is_unmounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_fuse()
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    rows = tuple(Row(row.loop, 5, row.calls) for row in floor.ROWS)
    monkeypatch.setattr("benchmarks.floor.ROWS", rows)
    by_read, by_ring = floor.floors(floor.build(tmp_path))
    assert by_ring.uring and not by_read.uring
    found = floor.measure(by_read, tmp_path, 0)
    assert sorted(found) == sorted(f"{row.loop}-{n}" for row in rows for n in (1, 2))
    assert all(took > 0 for took in found.values())
    assert not is_mounted(tmp_path / "floor-dev-0/merged")
    assert floor.measure(BY_NAME["native"], tmp_path, 0).keys() == found.keys()
