"""What not every transport can carry: O_TMPFILE, ioctls; and the filesystem as a whole."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.conformance.cases import mode_of, names, opened, refused, tree, union_only
from tests.conformance.subjects import World
from tests.conformance.tree import directory, file
from tests.helpers.aio import AsynchronousWriter
from tests.helpers.calls import (
    FS_APPEND_FL,
    FS_IMMUTABLE_FL,
    FS_NODUMP_FL,
    get_flags,
    link_fd,
    set_flags,
)

# -- O_TMPFILE --


@tree(file("d/f", b"data"))
def test_tmpfile_has_no_name(root: Path) -> None:
    """A file opened with O_TMPFILE is written and read, and shows nowhere."""
    with opened(root / "d", os.O_TMPFILE | os.O_RDWR, 0o666) as fd:
        os.write(fd, b"temporary")
        assert os.pread(fd, 20, 0) == b"temporary"
        assert os.fstat(fd).st_nlink == 0
        assert names(root / "d") == {"f"}


@tree(file("d/f", b"data"))
def test_tmpfile_is_given_a_name(root: Path) -> None:
    """linkat gives the finished file its name, all at once."""
    with opened(root / "d", os.O_TMPFILE | os.O_RDWR, 0o640) as fd:
        os.write(fd, b"finished")
        link_fd(fd, root / "d" / "new")
        with refused(errno.EEXIST):
            link_fd(fd, root / "d" / "f")
        assert os.fstat(fd).st_nlink == 1
        assert os.fstat(fd).st_ino == os.lstat(root / "d" / "new").st_ino
    assert (root / "d" / "new").read_bytes() == b"finished"
    assert mode_of(root / "d" / "new") == 0o640


@tree(file("d/f", b"data"))
def test_exclusive_tmpfile_stays_nameless(root: Path) -> None:
    """With O_EXCL the file can never be linked."""
    with (
        opened(root / "d", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600) as fd,
        refused(errno.ENOENT),
    ):
        link_fd(fd, root / "d" / "new")
    assert names(root / "d") == {"f"}


# -- chattr --


@tree(file("f", b"data"), directory("d"))
def test_flags_are_set_and_read(root: Path) -> None:
    """A harmless flag is set, read back and taken away, on file and directory."""
    for name in ("f", "d"):
        before = get_flags(root / name)
        set_flags(root / name, before | FS_NODUMP_FL)
        assert get_flags(root / name) & FS_NODUMP_FL
        set_flags(root / name, before)
        assert not get_flags(root / name) & FS_NODUMP_FL


@tree(file("f", b"data"))
def test_immutable_file(root: Path) -> None:
    """An immutable file is neither written, renamed nor removed until it is released."""
    set_flags(root / "f", get_flags(root / "f") | FS_IMMUTABLE_FL)
    try:
        with refused(errno.EPERM), opened(root / "f", os.O_WRONLY):
            pass
        with refused(errno.EPERM):
            os.unlink(root / "f")
        with refused(errno.EPERM):
            os.rename(root / "f", root / "g")
    finally:
        set_flags(root / "f", get_flags(root / "f") & ~FS_IMMUTABLE_FL)
    os.unlink(root / "f")


@tree(file("f", b"data"))
def test_append_only_file(root: Path) -> None:
    """An append-only file grows and is not overwritten."""
    set_flags(root / "f", get_flags(root / "f") | FS_APPEND_FL)
    try:
        with refused(errno.EPERM), opened(root / "f", os.O_WRONLY):
            pass
        with opened(root / "f", os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b" more")
    finally:
        set_flags(root / "f", get_flags(root / "f") & ~FS_APPEND_FL)
    assert (root / "f").read_bytes() == b"data more"


@pytest.mark.parametrize("is_read", [False, True], ids=["", "while it is read"])
@tree(file("f", b"data" * 1024))
def test_append_only_file_is_not_overwritten(root: Path, is_read: bool) -> None:
    """Not by a mapping, nor by clearing O_APPEND, which fcntl(2) may refuse or not."""
    path = root / "f"
    with ExitStack() as stack:
        set_flags(path, get_flags(path) | FS_APPEND_FL)
        stack.callback(lambda: set_flags(path, get_flags(path) & ~FS_APPEND_FL))
        reader = stack.enter_context(opened(path, os.O_RDONLY)) if is_read else None
        if reader is not None:
            assert os.pread(reader, 4, 0) == b"data"
        fd = stack.enter_context(opened(path, os.O_RDWR | os.O_APPEND))
        with pytest.raises(OSError, match=r"Permission denied|No such device"):
            mmap.mmap(fd, 4096)
        with suppress(PermissionError):
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            os.pwrite(fd, b"x", 0)
        with closing(AsynchronousWriter(fd, 4)) as writer:
            writer.write(ord("x"))
        os.write(fd, b"end")
        found = path.read_bytes()
        assert found.startswith(b"data" * 1024) and found.endswith(b"xxxxend")
        if reader is not None:
            assert os.pread(reader, 9000, 0) == found


# -- the filesystem as a whole --


@tree(file("f", b"data"), directory("d"))
def test_statfs_is_the_upper_s(root: Path, world: World) -> None:
    """statfs tells of the filesystem that is written to, the same by any path."""
    whole = os.statvfs(root)
    backing = os.statvfs(world.layers.upper if world.layers else root)
    assert (whole.f_bsize, whole.f_blocks) == (backing.f_bsize, backing.f_blocks)
    assert (whole.f_files, whole.f_namemax) == (backing.f_files, 255)
    with opened(root / "f", os.O_RDONLY) as fd:
        assert os.fstatvfs(fd).f_blocks == whole.f_blocks
    assert os.statvfs(root / "d").f_blocks == whole.f_blocks


@tree(file("f", b"data"), directory("d"))
def test_pathconf(root: Path) -> None:
    """pathconf answers with the limits the cases hold the subject to."""
    assert os.pathconf(root, "PC_NAME_MAX") == 255
    assert os.pathconf(root / "d", "PC_PATH_MAX") == 4096


@tree(file("f", b"data"))
def test_unknown_ioctl(root: Path) -> None:
    """An ioctl nobody knows is ENOTTY."""
    with opened(root / "f", os.O_RDONLY) as fd, refused(errno.ENOTTY):
        fcntl.ioctl(fd, 0x12345678)


def test_move_to_another_filesystem(root: Path) -> None:
    """rename and link to another filesystem are EXDEV; the file stays."""
    (root / "f").write_bytes(b"data")
    elsewhere = Path("/dev/pyunion-conformance")  # /dev is never where layers lie
    with refused(errno.EXDEV):
        os.rename(root / "f", elsewhere)
    with refused(errno.EXDEV):
        os.link(root / "f", elsewhere)
    assert names(root) == {"f"}


@union_only
def test_move_to_one_s_own_upper(root: Path, world: World) -> None:
    """The directory the upper lies in is another filesystem to every user of the mount."""
    (root / "f").write_bytes(b"data")
    with refused(errno.EXDEV):
        os.rename(root / "f", world.upper_path() / "g")
    with refused(errno.EXDEV):
        os.link(root / "f", world.upper_path() / "g")
    assert names(root) == {"f"}
