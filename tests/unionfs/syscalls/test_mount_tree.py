"""Private copies of a mount, with flags of their own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root, run
from tests.helpers.unions import errno_of
from unionfs.syscalls.mount_tree import (
    MOUNT_ATTR_ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_RDONLY,
    clone_mount,
    set_mount_attributes,
)
from unionfs.syscalls.mountinfo import read_mounts
from unionfs.syscalls.statx import mount_id


@pytest.fixture
def mounted_tmpfs(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A mount with one file, and an open file descriptor of its root."""
    require_root()
    run("mount", "-t", "tmpfs", "-o", "size=64k,strictatime", "source", tmp_path)
    (tmp_path / "file").write_text("content")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield tmp_path, fd
    os.close(fd)
    run("umount", "-l", tmp_path)


@pytest.fixture
def clone(mounted_tmpfs: tuple[Path, int]) -> Iterator[int]:
    """An O_PATH descriptor of the root of a copy of that mount."""
    tree = clone_mount(mounted_tmpfs[1])
    yield tree
    os.close(tree)


def test_the_mount_id_is_that_of_mountinfo(mounted_tmpfs: tuple[Path, int]) -> None:
    top, fd = mounted_tmpfs
    ids = [found.mount_id for found in read_mounts() if found.mount_point == os.fsencode(top)]
    assert ids == [mount_id(fd)]


def test_a_copy_shows_the_same_files_and_is_in_no_table(
    mounted_tmpfs: tuple[Path, int], clone: int
) -> None:
    top, fd = mounted_tmpfs
    st = os.stat("file", dir_fd=clone)
    assert os.path.samestat(st, (top / "file").stat())
    assert mount_id(clone) != mount_id(fd)
    assert mount_id(clone) not in [found.mount_id for found in read_mounts()]


def test_a_read_only_copy_leaves_the_mount_writable(
    mounted_tmpfs: tuple[Path, int], clone: int
) -> None:
    top, _ = mounted_tmpfs
    set_mount_attributes(clone, MOUNT_ATTR_RDONLY, 0)
    refused = errno_of(lambda: os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=clone))
    assert refused == errno.EROFS
    (top / "new").write_text("by the mount itself")
    assert os.stat("new", dir_fd=clone).st_size == 19


def test_a_copy_with_noatime_does_not_change_atime(
    mounted_tmpfs: tuple[Path, int], clone: int
) -> None:
    top, _ = mounted_tmpfs
    os.utime(top / "file", ns=(1, 2))
    set_mount_attributes(clone, MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME)
    fd = os.open("file", os.O_RDONLY, dir_fd=clone)
    assert os.read(fd, 7) == b"content"
    os.close(fd)
    assert (top / "file").stat().st_atime_ns == 1
    assert (top / "file").read_text() == "content"
    assert (top / "file").stat().st_atime_ns > 1


def test_what_is_no_root_of_a_mount_is_einval(tmp_path: Path) -> None:
    require_root()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert errno_of(lambda: set_mount_attributes(fd, MOUNT_ATTR_RDONLY, 0)) == errno.EINVAL
    finally:
        os.close(fd)
    assert errno_of(lambda: clone_mount(-1)) == errno.EBADF
