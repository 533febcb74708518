"""Locks on files that others remove."""

from __future__ import annotations

import os
from pathlib import Path

from layerstore.db.file_locks import is_at, try_lock


def test_one_at_a_time(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert try_lock(first) and try_lock(first)
    assert not try_lock(second)
    os.close(first)
    assert try_lock(second)
    os.close(second)


def test_a_name_that_leads_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    assert is_at(fd, path)
    path.rename(tmp_path / "kept")
    assert not is_at(fd, path)
    path.symlink_to("kept")
    assert not is_at(fd, path)
    os.close(fd)
