"""Holes, and the calls that make, find and copy them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.conformance.cases import opened, refused, tree
from tests.conformance.tree import directory, file, sparse
from tests.helpers.calls import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
    fallocate,
)

MIB = 2**20
SPARSE = sparse("s", 16 * MIB, (4 * MIB, b"middle"), (16 * MIB - 3, b"end"))


def content_is_right(fd: int) -> bool:
    return (
        os.pread(fd, 8, 4 * MIB - 1) == b"\0middle\0"
        and os.pread(fd, 4, 16 * MIB - 4) == b"\0end"
        and os.pread(fd, 100, 0) == bytes(100)
        and os.pread(fd, 100, 12 * MIB) == bytes(100)
    )


@tree(SPARSE)
def test_sparse_file_takes_little_room(root: Path) -> None:
    """st_size counts holes, st_blocks does not."""
    st = os.stat(root / "s")
    assert st.st_size == 16 * MIB
    assert 0 < st.st_blocks * 512 < MIB


@tree(SPARSE)
def test_sparse_file_stays_sparse_over_a_write(root: Path) -> None:
    """Writing one byte allocates no holes and loses no data."""
    with opened(root / "s", os.O_RDWR) as fd:
        os.pwrite(fd, b"!", 8 * MIB)
        assert content_is_right(fd)
        os.fsync(fd)
        assert os.fstat(fd).st_blocks * 512 < 4 * MIB  # copying may round a piece up
    assert os.stat(root / "s").st_size == 16 * MIB


@tree(sparse("hole", 8 * MIB))
def test_all_hole_stays_a_hole_over_chmod(root: Path) -> None:
    """A file that is one hole takes no room after a change of its mode."""
    os.chmod(root / "hole", 0o600)
    st = os.stat(root / "hole")
    assert (st.st_size, st.st_blocks) == (8 * MIB, 0)
    with opened(root / "hole", os.O_RDONLY) as fd:
        assert os.pread(fd, 10, 5 * MIB) == bytes(10)


# -- finding holes --


@tree(SPARSE)
@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed"])
def test_seek_data_and_hole(root: Path, changed: bool) -> None:
    """SEEK_DATA finds the pieces, SEEK_HOLE the gaps."""
    if changed:
        os.chmod(root / "s", 0o600)
    with opened(root / "s", os.O_RDONLY) as fd:
        data = os.lseek(fd, 0, os.SEEK_DATA)
        assert data == 4 * MIB
        hole = os.lseek(fd, data, os.SEEK_HOLE)
        assert data < hole <= data + MIB
        last = os.lseek(fd, hole, os.SEEK_DATA)
        assert 16 * MIB - MIB <= last < 16 * MIB
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0


@tree(file("f", b"data"))
def test_seek_at_and_beyond_the_end(root: Path) -> None:
    """The end is a hole; beyond it ENXIO, and below 0, where an ordinary seek may not go either."""
    with opened(root / "f", os.O_RDONLY) as fd:
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 4
        with refused(errno.ENXIO):
            os.lseek(fd, 4, os.SEEK_DATA)
        assert os.lseek(fd, 10, os.SEEK_SET) == 10
        assert os.lseek(fd, -1, os.SEEK_END) == 3
        with refused(errno.EINVAL):
            os.lseek(fd, -1, os.SEEK_SET)
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with refused(errno.ENXIO):
                os.lseek(fd, -1, whence)


# -- fallocate --


@tree(file("f", b"data"))
def test_fallocate_extends(root: Path) -> None:
    """Mode 0 reserves room and extends the size with zeros."""
    with opened(root / "f", os.O_RDWR) as fd:
        fallocate(fd, 0, 0, MIB)
        st = os.fstat(fd)
        assert st.st_size == MIB
        assert st.st_blocks * 512 >= MIB
        assert os.pread(fd, 6, 0) == b"data\0\0"


@tree(file("f", b"data"))
def test_fallocate_keeping_the_size(root: Path) -> None:
    """KEEP_SIZE reserves room behind the end."""
    with opened(root / "f", os.O_RDWR) as fd:
        fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, MIB)
        st = os.fstat(fd)
        assert st.st_size == 4
        assert st.st_blocks * 512 >= MIB


@tree(file("f", b"x" * MIB))
def test_punch_a_hole(root: Path) -> None:
    """PUNCH_HOLE frees room and leaves zeros; size and the rest stay."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.fsync(fd)
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536, 131072)
        assert os.fstat(fd).st_size == MIB
        assert os.pread(fd, 131072, 65536) == bytes(131072)
        assert os.pread(fd, 65536, 0) == b"x" * 65536
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 65536


@tree(file("f", b"x" * 65536))
def test_zero_a_range(root: Path) -> None:
    """ZERO_RANGE leaves zeros and keeps the room."""
    with opened(root / "f", os.O_RDWR) as fd:
        fallocate(fd, FALLOC_FL_ZERO_RANGE, 4096, 8192)
        assert os.pread(fd, 8194, 4095) == b"x" + bytes(8192) + b"x"
        assert os.fstat(fd).st_size == 65536


@tree(file("f", b"data"), directory("d"))
def test_fallocate_of_what_may_not_be(root: Path) -> None:
    """A read-only descriptor is EBADF, a length of 0 EINVAL, beyond any limit EFBIG."""
    with opened(root / "f", os.O_RDONLY) as fd, refused(errno.EBADF):
        fallocate(fd, 0, 0, 10)
    with opened(root / "f", os.O_RDWR) as fd:
        with refused(errno.EINVAL):
            fallocate(fd, 0, 0, 0)
        with refused(errno.EFBIG):
            fallocate(fd, 0, 2**62, 2**62 + 2**61)
    assert (root / "f").read_bytes() == b"data"


@tree(file("f", b"data"))
def test_posix_fallocate(root: Path) -> None:
    """posix_fallocate, which libc emulates where it must, extends the file."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.posix_fallocate(fd, 0, 65536)
        assert os.fstat(fd).st_size == 65536
        assert os.pread(fd, 5, 0) == b"data\0"


# -- copy_file_range --


@tree(file("source", b"0123456789" * 1000), file("target", b"t" * 100))
def test_copy_file_range(root: Path) -> None:
    """A range is copied between two files of the tree; both may be anywhere."""
    with opened(root / "source", os.O_RDONLY) as old, opened(root / "target", os.O_RDWR) as new:
        assert os.copy_file_range(old, new, 20, 5, 50) == 20
    assert (root / "target").read_bytes() == b"t" * 50 + b"56789012345678901234" + b"t" * 30


@tree(file("source", b"0123456789"))
def test_copy_file_range_to_the_end(root: Path) -> None:
    """Only what is there is copied, and nothing at the end."""
    with (
        opened(root / "source", os.O_RDONLY) as old,
        opened(root / "new", os.O_RDWR | os.O_CREAT) as new,
    ):
        assert os.copy_file_range(old, new, 100) == 10
        assert os.copy_file_range(old, new, 100) == 0
    assert (root / "new").read_bytes() == b"0123456789"


@tree(file("f", b"0123456789"))
def test_copy_file_range_within_one_file(root: Path) -> None:
    """Ranges of one file that do not overlap are copied, overlapping ones refused."""
    with opened(root / "f", os.O_RDWR) as fd:
        assert os.copy_file_range(fd, fd, 3, 0, 7) == 3
        with refused(errno.EINVAL):
            os.copy_file_range(fd, fd, 5, 0, 3)
    assert (root / "f").read_bytes() == b"0123456012"


@tree(file("f", b"0123456789"))
def test_sendfile(root: Path) -> None:
    """sendfile reads a file of the tree and writes another."""
    with (
        opened(root / "f", os.O_RDONLY) as old,
        opened(root / "new", os.O_RDWR | os.O_CREAT) as new,
    ):
        assert os.sendfile(new, old, 2, 5) == 5
    assert (root / "new").read_bytes() == b"23456"
