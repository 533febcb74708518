"""The end of a filesystem is seen when its last user has gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root, run
from unionfs.syscalls.inotify import EndWatch


def test_a_watch_ends_with_its_last_user(tmp_path: Path) -> None:
    require_root()
    run("mount", "-t", "tmpfs", "none", tmp_path)
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    watch = EndWatch(root)
    os.close(root)
    try:
        kept = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        run("umount", "-l", tmp_path)
        assert not watch.ended_within(0.01)
        os.close(kept)
        assert watch.ended_within(20)
    finally:
        watch.close()


def test_a_directory_that_cannot_be_watched(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        EndWatch(100_000)
    assert os.listdir("/proc/self/fd") == before
