"""Files that several threads copy: all of them, each once, and the first error."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from layerstore.build.batches import Batch
from layerstore.build.owner import ROOT, Owner
from layerstore.build.tree import TreeEntry


def entries(folder: Path, count: int) -> list[TreeEntry]:
    """Return entries whose directory is closed by the caller's next step, as a walk does."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    st = os.fstat(fd)
    return [TreeEntry(f"f{n}", f"f{n}", fd, st, 1) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 700])
def test_each_file_is_copied_once(tmp_path: Path, count: int) -> None:
    done: list[str] = []

    def copy(entry: TreeEntry, fd: int, name: bytes, owner: Owner) -> None:
        os.fstat(entry.parent_fd)
        assert (fd, name, owner) == (7, entry.name.encode(), ROOT)
        done.append(entry.name)

    before = threading.active_count()
    batch = Batch(copy)
    given = entries(tmp_path, count)
    for entry in given:
        batch.add(entry, 7, entry.name.encode(), ROOT)
    if given:
        os.close(given[0].parent_fd)
    batch.finish()
    assert sorted(done) == sorted(f"f{n}" for n in range(count))
    assert threading.active_count() == before
    batch.finish()


def test_the_first_error_ends_it(tmp_path: Path) -> None:
    done: list[str] = []

    def copy(entry: TreeEntry, fd: int, name: bytes, owner: Owner) -> None:
        if entry.name == "f5":
            raise OSError(28, "full")
        done.append(entry.name)

    batch = Batch(copy)
    given = entries(tmp_path, 300)
    before = len(os.listdir("/proc/self/fd"))
    for entry in given:
        batch.add(entry, 0, b"", ROOT)
    with pytest.raises(OSError, match="full"):
        batch.finish()
    assert "f5" not in done and len(done) < 300
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(given[0].parent_fd)
