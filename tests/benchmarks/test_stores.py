"""Stores of a benchmark's own: nothing of them is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stores import Store, run, workspace
from tests.helpers.mounts import mount_type, require_root


def test_what_is_left_mounted_goes_with_the_workspace(tmp_path: Path) -> None:
    require_root()
    with workspace("bench-", tmp_path) as base:
        point = base / "point"
        point.mkdir()
        run("mount", "-t", "tmpfs", "left", point)
        assert mount_type(point) == "tmpfs"
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"ls --no-such-option: .*unrecognized option"):
        Store("ls").command("--no-such-option")


def test_processor_time_is_counted() -> None:
    store = Store("sh", "-c")
    before = store.cpu()
    store.command("i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done")
    assert store.cpu() > before
