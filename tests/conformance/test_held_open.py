"""Descriptors held open while their file is copied up, unlinked, replaced or changed."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path

from tests.conformance.cases import absent, mode_of, opened, refused, tree
from tests.conformance.tree import directory, file

# -- over copy-up --


@tree(file("f", b"old content"))
def test_reader_sees_a_later_write(root: Path) -> None:
    """A descriptor opened for reading sees what another one writes."""
    with opened(root / "f", os.O_RDONLY) as reader:
        assert os.read(reader, 3) == b"old"
        with opened(root / "f", os.O_WRONLY) as writer:
            os.write(writer, b"NEW")
        assert os.pread(reader, 20, 0) == b"NEW content"
        assert os.read(reader, 8) == b" content"


@tree(file("f", b"old content"))
def test_reader_sees_a_later_truncate(root: Path) -> None:
    """A reader sees the new size and nothing beyond it."""
    with opened(root / "f", os.O_RDONLY) as reader:
        os.truncate(root / "f", 3)
        assert os.fstat(reader).st_size == 3
        assert os.pread(reader, 20, 0) == b"old"


@tree(file("f", b"old content", mode=0o644))
def test_reader_sees_a_later_chmod(root: Path) -> None:
    """fstat of a reader follows chmod, chown and utimes by name."""
    with opened(root / "f", os.O_RDONLY) as reader:
        os.chmod(root / "f", 0o600)
        os.chown(root / "f", 5, 6)
        os.utime(root / "f", ns=(1, 2))
        st = os.fstat(reader)
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o600, 5, 6)
        assert (st.st_mtime_ns, st.st_ino) == (2, os.lstat(root / "f").st_ino)
        assert os.read(reader, 20) == b"old content"


@tree(file("f", b"old content"))
def test_reader_chmods_through_its_descriptor(root: Path) -> None:
    """fchmod, fchown and futimes need no write access, and show by name."""
    with opened(root / "f", os.O_RDONLY) as fd:
        os.fchmod(fd, 0o4711)
        os.fchown(fd, 5, -1)
        os.fchmod(fd, 0o4711)
        os.utime(fd, ns=(3, 4))
        os.setxattr(fd, "user.a", b"1")
    st = os.lstat(root / "f")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_mtime_ns) == (0o4711, 5, 4)
    assert os.getxattr(root / "f", "user.a") == b"1"
    assert (root / "f").read_bytes() == b"old content"


@tree(file("f", b"old content"))
def test_many_readers_before_many_writers(root: Path) -> None:
    """Readers and writers opened in turn all agree on one content."""
    fds = []
    try:
        for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDONLY, os.O_RDWR, os.O_RDONLY):
            fds.append(os.open(root / "f", flags))
        os.pwrite(fds[1], b"1", 0)
        os.pwrite(fds[3], b"3", 1)
        assert {os.pread(fd, 20, 0) for fd in fds} == {b"13d content"}
        assert len({os.fstat(fd).st_ino for fd in fds}) == 1
    finally:
        for fd in fds:
            os.close(fd)


@tree(file("f", b"old content"))
def test_map_before_a_write(root: Path) -> None:
    """A shared mapping made for reading still reads after another descriptor wrote."""
    with (
        opened(root / "f", os.O_RDONLY) as fd,
        mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped,
    ):
        assert mapped[:3] == b"old"
        with opened(root / "f", os.O_WRONLY) as writer:
            os.pwrite(writer, b"NEW", 0)
        assert mapped[:11] == b"NEW content"


@tree(file("f", b"old"), directory("d"))
def test_reader_over_copy_up_and_rename(root: Path) -> None:
    """A reader follows its file through write and rename."""
    with opened(root / "f", os.O_RDONLY) as reader:
        (root / "f").write_bytes(b"new")
        os.rename(root / "f", root / "d" / "g")
        with opened(root / "d" / "g", os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b" and more")
        assert os.read(reader, 20) == b"new and more"


@tree(file("d/f", b"old"))
def test_directory_held_open_over_changes_in_it(root: Path) -> None:
    """Names made and removed by path are seen through a directory's descriptor."""
    with opened(root / "d", os.O_RDONLY) as fd:
        (root / "d" / "new").write_bytes(b"")
        os.unlink(root / "d" / "f")
        assert os.listdir(fd) == ["new"]
        with refused(errno.ENOENT):
            os.stat("f", dir_fd=fd)


# -- over unlink --


@tree(file("f", b"content"))
def test_read_after_unlink(root: Path) -> None:
    """An unlinked file is read to its end."""
    with opened(root / "f", os.O_RDONLY) as fd:
        os.unlink(root / "f")
        assert os.read(fd, 20) == b"content"
        st = os.fstat(fd)
        assert (st.st_nlink, st.st_size) == (0, 7)


@tree(file("f", b"content"))
def test_write_after_unlink(root: Path) -> None:
    """An unlinked file is written, cut, extended and read back."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.unlink(root / "f")
        os.pwrite(fd, b"CON", 0)
        assert os.pread(fd, 20, 0) == b"CONtent"
        os.ftruncate(fd, 3)
        os.pwrite(fd, b"!", 5)
        assert os.pread(fd, 20, 0) == b"CON\0\0!"
        os.fsync(fd)
    assert absent(root / "f")


@tree(file("f", b"content"))
def test_attributes_after_unlink(root: Path) -> None:
    """fchmod, fchown and futimes work on an unlinked file opened for writing."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.unlink(root / "f")
        os.fchmod(fd, 0o600)
        os.fchown(fd, 5, 6)
        os.utime(fd, ns=(3, 4))
        st = os.fstat(fd)
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o600, 5, 6)
        assert st.st_mtime_ns == 4


@tree(file("f", b"content"))
def test_chmod_of_an_unlinked_reader(root: Path) -> None:
    """fchmod works on an unlinked file that was only opened for reading."""
    with opened(root / "f", os.O_RDONLY) as fd:
        os.unlink(root / "f")
        os.fchmod(fd, 0o600)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
        assert os.read(fd, 20) == b"content"


@tree(file("f", b"content"))
def test_xattrs_after_unlink(root: Path) -> None:
    """Xattrs are set and read through the descriptor of an unlinked file."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.unlink(root / "f")
        os.setxattr(fd, "user.a", b"1")
        assert os.getxattr(fd, "user.a") == b"1"
        assert "user.a" in os.listxattr(fd)


@tree(file("f", b"content"))
def test_a_new_file_beside_an_unlinked_one(root: Path) -> None:
    """A new file under the name of an unlinked open one is another file."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.unlink(root / "f")
        (root / "f").write_bytes(b"new")
        os.pwrite(fd, b"C", 0)
        assert os.pread(fd, 20, 0) == b"Content"
        assert os.fstat(fd).st_ino != os.lstat(root / "f").st_ino
    assert (root / "f").read_bytes() == b"new"


@tree(file("f", b"content"))
def test_reopen_an_unlinked_file(root: Path) -> None:
    """An unlinked file is opened once more through /proc."""
    with opened(root / "f", os.O_RDWR) as fd:
        os.unlink(root / "f")
        with opened(f"/proc/self/fd/{fd}", os.O_RDWR) as again:
            os.pwrite(again, b"C", 0)
        assert os.pread(fd, 20, 0) == b"Content"


@tree(file("f", b"content"))
def test_map_after_unlink(root: Path) -> None:
    """A shared mapping of an unlinked file is stored to and read."""
    with opened(root / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        os.unlink(root / "f")
        mapped[0:3] = b"CON"
        mapped.flush()
        assert os.pread(fd, 20, 0) == b"CONtent"


@tree(file("f", b"content"))
def test_write_then_unlink_with_a_reader(root: Path) -> None:
    """A reader from before a write reads the new content after the unlink."""
    with opened(root / "f", os.O_RDONLY) as reader:
        (root / "f").write_bytes(b"changed")
        os.unlink(root / "f")
        assert os.pread(reader, 20, 0) == b"changed"


@tree(file("d/f", b"content", mode=0o640))
def test_file_and_its_directory_removed(root: Path) -> None:
    """A file lives on in its descriptor when its directory is gone too."""
    with opened(root / "d" / "f", os.O_RDWR) as fd:
        os.unlink(root / "d" / "f")
        os.rmdir(root / "d")
        os.write(fd, b"C")
        assert os.pread(fd, 20, 0) == b"Content"
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640


@tree(file("f", b"old"), file("g", b"new", mode=0o600))
def test_replaced_while_open(root: Path) -> None:
    """A reader of a replaced file keeps the old one; the name has the new one."""
    with opened(root / "f", os.O_RDONLY) as fd:
        os.rename(root / "g", root / "f")
        assert os.read(fd, 10) == b"old"
        assert os.fstat(fd).st_nlink == 0
    assert (root / "f").read_bytes() == b"new"
    assert mode_of(root / "f") == 0o600
