"""Data that is on the disk before its name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root, run
from tests.helpers.small_disks import small_disk
from tests.helpers.unions import errno_of
from unionfs.syscalls.writeback import begin_write_back, is_journalled, is_ordered, write_back


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a directory or file to read."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 whose image is `tmp_path`/image."""
    require_root()
    with small_disk(tmp_path, "ext4", 8 << 20) as top:
        yield top


def test_written_back_data_is_on_the_disk(disk: Path, tmp_path: Path) -> None:
    data = os.urandom(16_384)
    with (disk / "file").open("wb", buffering=0) as file:
        file.write(data)
        write_back(file.fileno())
        assert data[:4096] in (tmp_path / "image").read_bytes()


def test_ext4_keeps_data_before_names(disk: Path) -> None:
    with opened(disk) as fd:
        assert is_ordered(fd)


def test_ext4_with_data_writeback_does_not(tmp_path: Path) -> None:
    require_root()
    image, top = tmp_path / "image", tmp_path / "top"
    top.mkdir()
    with image.open("wb") as out:
        out.truncate(8 << 20)
    run("mkfs.ext4", "-q", "-F", image)
    run("mount", "-o", "loop,data=writeback", image, top)
    try:
        with opened(top) as fd:
            assert not is_ordered(fd)
    finally:
        run("umount", "-l", top)


@pytest.mark.parametrize(
    ("made", "mounted", "journalled"),
    [
        ([], "loop", True),
        ([], "loop,data=writeback", True),
        (["-O", "^has_journal"], "loop", False),
        (["-t", "ext2"], "loop", False),
    ],
    ids=["ordered", "writeback", "no journal", "ext2"],
)
def test_which_ext4_keeps_the_order_of_names_and_inodes(
    tmp_path: Path, made: list[str], mounted: str, journalled: bool
) -> None:
    require_root()
    image, top = tmp_path / "image", tmp_path / "top"
    top.mkdir()
    with image.open("wb") as out:
        out.truncate(8 << 20)
    run("mkfs.ext4", "-q", "-F", *made, image)
    run("mount", "-o", mounted, image, top)
    try:
        with opened(top) as fd:
            assert is_journalled(fd) is journalled
    finally:
        run("umount", "-l", top)


@pytest.mark.parametrize(
    ("kind", "size"), [("xfs", 320 << 20), ("btrfs", 320 << 20), ("tmpfs", 1 << 20)]
)
def test_filesystems_other_than_ext4_count_as_journalled(
    tmp_path: Path, kind: str, size: int
) -> None:
    require_root()
    if kind != "tmpfs" and shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not here")
    with small_disk(tmp_path, kind, size) as top, opened(top) as fd:
        assert is_journalled(fd)


def test_a_filesystem_without_a_device_does_not() -> None:
    with opened(Path("/proc")) as fd:
        assert not is_ordered(fd)
        assert not is_journalled(fd)


def test_a_closed_descriptor_is_ebadf() -> None:
    assert errno_of(lambda: begin_write_back(-1)) == errno.EBADF
    assert errno_of(lambda: write_back(-1)) == errno.EBADF
    assert errno_of(lambda: is_ordered(-1)) == errno.EBADF
    assert errno_of(lambda: is_journalled(-1)) == errno.EBADF
