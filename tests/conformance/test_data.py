"""Reading, writing, truncating, mapping and syncing the content of files."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from tests.conformance.cases import absent, names, opened, refused, tree
from tests.conformance.tree import directory, file, special, symlink
from tests.helpers.calls import syncfs

BIG = bytes(range(256)) * 4096  # 1 MiB: several requests on any transport


@tree(file("f", b"0123456789"))
def test_write_in_the_middle(root: Path) -> None:
    """A write changes its bytes and no others."""
    with opened(root / "f", os.O_WRONLY) as fd:
        assert os.pwrite(fd, b"xyz", 4) == 3
    assert (root / "f").read_bytes() == b"0123xyz789"


@tree(file("f", b"0123"))
def test_write_beyond_the_end(root: Path) -> None:
    """A write beyond the end leaves zeros between."""
    with opened(root / "f", os.O_WRONLY) as fd:
        os.pwrite(fd, b"end", 10_000)
    assert (root / "f").read_bytes() == b"0123" + bytes(9996) + b"end"


@tree(file("f", BIG))
def test_read_in_pieces(root: Path) -> None:
    """Any offset and size gives the right bytes, and none beyond the end."""
    with opened(root / "f", os.O_RDONLY) as fd:
        for offset, size in ((0, 1), (4095, 2), (131071, 70_000), (len(BIG) - 3, 10)):
            assert os.pread(fd, size, offset) == BIG[offset : offset + size]
        assert os.pread(fd, 10, len(BIG)) == b""
        assert os.pread(fd, 10, len(BIG) + 10_000) == b""


@tree(file("f", BIG))
def test_change_one_byte_of_a_large_file(root: Path) -> None:
    """All of a large file is there after one byte of it was written."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.pwrite(fd, b"!", 500_000)
        expected = BIG[:500_000] + b"!" + BIG[500_001:]
        assert os.pread(fd, len(BIG), 0) == expected
    assert (root / "f").read_bytes() == expected


def test_write_a_large_file(root: Path) -> None:
    """A large write arrives whole."""
    with opened(root / "f", os.O_RDWR | os.O_CREAT) as fd:
        assert os.write(fd, BIG * 3) == len(BIG) * 3
        assert os.fstat(fd).st_size == len(BIG) * 3
    assert (root / "f").read_bytes() == BIG * 3


@tree(file("f", b"0123456789"))
def test_vectors(root: Path) -> None:
    """pwritev and preadv scatter and gather in order."""
    with opened(root / "f", os.O_RDWR) as fd:
        assert os.pwritev(fd, [b"ab", b"cde"], 2) == 5
        one, two = bytearray(4), bytearray(6)
        assert os.preadv(fd, [one, two], 0) == 10
    assert bytes(one + two) == b"01abcde789"


@tree(file("f", b""))
def test_empty_file(root: Path) -> None:
    """An empty file reads as empty, and takes its first bytes."""
    assert (root / "f").read_bytes() == b""
    with opened(root / "f", os.O_RDWR) as fd:
        os.write(fd, b"first")
    assert (root / "f").read_bytes() == b"first"


# -- truncate --


@tree(file("f", b"0123456789"))
@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 8192])
def test_truncate_by_path(root: Path, size: int) -> None:
    """truncate cuts, or extends with zeros, and keeps what remains."""
    os.truncate(root / "f", size)
    assert os.stat(root / "f").st_size == size
    assert (root / "f").read_bytes() == b"0123456789"[:size].ljust(size, b"\0")


@tree(file("f", b"0123456789"))
@pytest.mark.parametrize("size", [0, 4, 10, 5000])
def test_truncate_by_descriptor(root: Path, size: int) -> None:
    """ftruncate does the same, seen through the descriptor at once."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.ftruncate(fd, size)
        assert os.fstat(fd).st_size == size
        assert os.pread(fd, 9000, 0) == b"0123456789"[:size].ljust(size, b"\0")


@tree(file("f", b"0123456789"))
def test_truncate_down_and_up(root: Path) -> None:
    """What was cut off does not come back when the file grows."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.ftruncate(fd, 3)
        os.ftruncate(fd, 10)
    assert (root / "f").read_bytes() == b"012" + bytes(7)


@tree(file("f", b"data"), directory("d"), special("p", 0o010600), symlink("l", "f"))
def test_truncate_of_other_kinds(root: Path) -> None:
    """A directory is EISDIR, a fifo EINVAL, an absent name ENOENT; a symlink is followed."""
    with refused(errno.EISDIR):
        os.truncate(root / "d", 0)
    with refused(errno.EINVAL):
        os.truncate(root / "p", 0)
    with refused(errno.ENOENT):
        os.truncate(root / "none", 0)
    os.truncate(root / "l", 1)
    assert (root / "f").read_bytes() == b"d"


@tree(file("f", b"data"))
def test_truncate_to_impossible_sizes(root: Path) -> None:
    """A negative size is EINVAL, one beyond any filesystem EFBIG; the content stays."""
    with refused(errno.EINVAL):
        os.truncate(root / "f", -1)
    with refused(errno.EFBIG):
        os.truncate(root / "f", 2**63 - 1)
    assert (root / "f").read_bytes() == b"data"


@tree(file("f", b"data"))
def test_truncate_to_the_same_size_marks_the_time(root: Path) -> None:
    """ftruncate to the present size is a change for mtime."""
    before = os.stat(root / "f").st_mtime_ns
    with opened(root / "f", os.O_RDWR) as fd:
        os.ftruncate(fd, 4)
    assert os.stat(root / "f").st_mtime_ns > before


# -- mappings --


@tree(file("f", b"0123456789"))
def test_map_shared_and_write(root: Path) -> None:
    """What is stored through a shared mapping is what the file holds."""
    with opened(root / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[2:5] = b"abc"
        mapped.flush()
        assert os.pread(fd, 10, 0) == b"01abc56789"
    assert (root / "f").read_bytes() == b"01abc56789"


@tree(file("f", b"0123456789"))
def test_map_sees_what_is_written(root: Path) -> None:
    """A mapping and writes through the same descriptor agree."""
    with opened(root / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        os.pwrite(fd, b"ab", 0)
        assert mapped[:4] == b"ab23"


@tree(file("f", b"0123456789"))
def test_map_private(root: Path) -> None:
    """A private mapping changes nothing in the file."""
    with (
        opened(root / "f", os.O_RDONLY) as fd,
        mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped,
    ):
        mapped[0:1] = b"X"
    assert (root / "f").read_bytes() == b"0123456789"


@tree(file("f", BIG))
def test_map_after_close(root: Path) -> None:
    """A mapping outlives its descriptor and the file's name."""
    with opened(root / "f", os.O_RDONLY) as fd:
        mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    os.unlink(root / "f")
    with mapped:
        assert mapped[700_000:700_010] == BIG[700_000:700_010]


@tree(file("f", BIG))
def test_map_large_and_write_everywhere(root: Path) -> None:
    """Stores to many pages all arrive."""
    with opened(root / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        for page in range(0, len(BIG), 65536):
            mapped[page : page + 1] = b"!"
        mapped.flush()
    content = (root / "f").read_bytes()
    assert all(content[page : page + 1] == b"!" for page in range(0, len(BIG), 65536))
    assert content[1:65536] == BIG[1:65536]


# -- syncing --


@tree(file("f", b"data"), directory("d"))
def test_sync_calls(root: Path) -> None:
    """fsync, fdatasync, fsync of a directory, syncfs and msync succeed."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.write(fd, b"DATA")
        os.fsync(fd)
        os.fdatasync(fd)
        syncfs(fd)
    for path in (root, root / "d"):
        with opened(path, os.O_RDONLY) as fd:
            os.fsync(fd)
            os.fdatasync(fd)


@tree(file("f", b"data"))
def test_sync_of_a_read_only_descriptor(root: Path) -> None:
    """fsync succeeds on a descriptor that only reads."""
    with opened(root / "f", os.O_RDONLY) as fd:
        os.fsync(fd)
        (root / "f").write_bytes(b"changed")
        os.fsync(fd)
        assert os.pread(fd, 10, 0) == b"changed"


# -- offsets beyond 32 bits, and around the cache --


@tree(file("f", b"begin"))
def test_beyond_four_gigabytes(root: Path) -> None:
    """Offsets beyond 4 GiB are written, read and told by size."""
    far = 5 * 2**30 + 123
    with opened(root / "f", os.O_RDWR) as fd:
        os.pwrite(fd, b"far", far)
        assert os.fstat(fd).st_size == far + 3
        assert os.pread(fd, 10, far - 2) == b"\0\0far"
        assert os.pread(fd, 6, 0) == b"begin\0"
        assert os.fstat(fd).st_blocks * 512 < 2**20


@tree(file("f", BIG))
def test_direct_io(root: Path) -> None:
    """O_DIRECT reads and writes aligned blocks, coherently with ordinary descriptors."""
    with mmap.mmap(-1, 8192) as buffer, opened(root / "f", os.O_RDWR | os.O_DIRECT) as fd:
        buffer[:] = b"D" * 8192
        assert os.pwritev(fd, [buffer], 4096) == 8192
        with opened(root / "f", os.O_RDONLY) as reader:
            assert os.pread(reader, 4, 4094) == BIG[4094:4096] + b"DD"
        buffer[:] = bytes(8192)
        assert os.preadv(fd, [buffer], 0) == 8192
        assert buffer[:4096] == BIG[:4096]
        assert buffer[4096:] == b"D" * 4096


@tree(file("f", b"data"))
def test_size_is_right_after_every_append(root: Path) -> None:
    """stat by name and by descriptor follow each write of another descriptor."""
    with opened(root / "f", os.O_RDONLY) as watcher:
        for count in range(1, 5):
            with opened(root / "f", os.O_WRONLY | os.O_APPEND) as fd:
                os.write(fd, b"1234")
            size = 4 + 4 * count
            assert os.stat(root / "f").st_size == os.fstat(watcher).st_size == size
            assert len(os.pread(watcher, 100, 0)) == size


# -- files without a name --


def test_temporary_file_pattern(root: Path) -> None:
    """A file created, unlinked and used is the old form of a temporary file."""
    with opened(root / "t", os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
        os.unlink(root / "t")
        assert absent(root / "t")
        assert names(root) == set()
        os.write(fd, BIG)
        assert os.pread(fd, 10, 500) == BIG[500:510]
        os.ftruncate(fd, 3)
        assert os.fstat(fd).st_size == 3
        assert os.fstat(fd).st_nlink == 0
