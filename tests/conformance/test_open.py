"""open(2) and creat(2): every flag, on every kind of object."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.conformance.cases import absent, mode_of, names, opened, refused, tree
from tests.conformance.tree import directory, file, special, symlink
from tests.helpers.calls import access

CREATE = os.O_CREAT | os.O_WRONLY


@pytest.mark.parametrize("mode", [0o666, 0o600, 0o000, 0o4755, 0o1777])
def test_create_applies_the_umask(root: Path, mode: int) -> None:
    """A new file has the asked mode less the umask, is empty and owned by its maker."""
    with opened(root / "f", CREATE, mode):
        pass
    st = os.lstat(root / "f")
    assert (st.st_mode, st.st_size, st.st_nlink) == (stat.S_IFREG | mode & ~0o022, 0, 1)
    assert (st.st_uid, st.st_gid) == (0, 0)


def test_create_read_only_mode_gives_a_writable_fd(root: Path) -> None:
    """The mode of a file just created does not bind the descriptor that created it."""
    with opened(root / "f", CREATE, 0o400) as fd:
        os.write(fd, b"text")
    assert (root / "f").read_bytes() == b"text"


@tree(file("f", b"old"), directory("d"), symlink("l", "f"), symlink("dangling", "none"))
@pytest.mark.parametrize("name", ["f", "d", "l", "dangling"])
def test_create_exclusive_over_anything(root: Path, name: str) -> None:
    """O_EXCL refuses every existing name, symlinks unread, and changes nothing."""
    with refused(errno.EEXIST), opened(root / name, CREATE | os.O_EXCL):
        pass
    assert (root / "f").read_bytes() == b"old"
    assert absent(root / "none")


@tree(file("f", b"old"))
def test_create_exclusive_after_unlink(root: Path) -> None:
    """A name that was deleted is free for O_EXCL, and the new file starts empty."""
    os.unlink(root / "f")
    with opened(root / "f", CREATE | os.O_EXCL):
        pass
    assert (root / "f").read_bytes() == b""


@tree(file("f", b"content", mode=0o640, uid=7, gid=8))
def test_create_over_an_existing_file_keeps_it(root: Path) -> None:
    """O_CREAT without O_EXCL opens what is there: content, mode and owner stay."""
    with opened(root / "f", CREATE, 0o777):
        pass
    st = os.stat(root / "f")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o640, 7, 8)
    assert (root / "f").read_bytes() == b"content"


@tree(directory("d"))
@pytest.mark.parametrize("flags", [os.O_CREAT | os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_open_a_directory_for_creating_or_writing(root: Path, flags: int) -> None:
    """A directory is opened neither with O_CREAT nor for writing."""
    with refused(errno.EISDIR), opened(root / "d", flags):
        pass


@tree(symlink("dangling", "none"), directory("d"))
def test_create_through_a_dangling_symlink(root: Path) -> None:
    """O_CREAT through a dangling symlink makes its target."""
    with opened(root / "dangling", CREATE):
        pass
    assert stat.S_ISREG(os.lstat(root / "none").st_mode)
    assert os.path.islink(root / "dangling")


@tree(file("f", b"old"), symlink("l", "f"))
def test_open_nofollow_of_a_symlink(root: Path) -> None:
    """O_NOFOLLOW refuses a symlink with ELOOP and opens a file."""
    with refused(errno.ELOOP), opened(root / "l", os.O_RDONLY | os.O_NOFOLLOW):
        pass
    with opened(root / "f", os.O_RDONLY | os.O_NOFOLLOW) as fd:
        assert os.read(fd, 10) == b"old"


@tree(symlink("a", "b"), symlink("b", "a"))
def test_open_a_symlink_loop(root: Path) -> None:
    """Symlinks that point at each other give ELOOP."""
    with refused(errno.ELOOP), opened(root / "a", os.O_RDONLY):
        pass


@tree(file("f"), directory("d"), symlink("to-dir", "d"))
def test_open_directory_flag(root: Path) -> None:
    """O_DIRECTORY opens directories only, through symlinks too."""
    with refused(errno.ENOTDIR), opened(root / "f", os.O_RDONLY | os.O_DIRECTORY):
        pass
    for name in ("d", "to-dir"):
        with opened(root / name, os.O_RDONLY | os.O_DIRECTORY) as fd:
            assert stat.S_ISDIR(os.fstat(fd).st_mode)


@tree(file("f", b"long old content"))
@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, CREATE])
def test_open_truncating(root: Path, flags: int) -> None:
    """O_TRUNC empties a file and writing starts at its beginning."""
    with opened(root / "f", flags | os.O_TRUNC) as fd:
        assert os.fstat(fd).st_size == 0
        os.write(fd, b"new")
    assert (root / "f").read_bytes() == b"new"


@tree(file("f", b"long old content", mode=0o755, uid=5, xattrs={"user.a": b"1"}))
def test_open_truncating_keeps_the_attributes(root: Path) -> None:
    """O_TRUNC takes the content only: mode, owner and xattrs stay."""
    with opened(root / "f", os.O_WRONLY | os.O_TRUNC):
        pass
    st = os.stat(root / "f")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_size) == (0o755, 5, 0)
    assert os.getxattr(root / "f", "user.a") == b"1"


@tree(file("f", b"one"))
def test_open_appending(root: Path) -> None:
    """Every write of an O_APPEND descriptor goes to the end, even if another writer moved it."""
    with opened(root / "f", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"two")
        with opened(root / "f", os.O_WRONLY | os.O_APPEND) as other:
            os.write(other, b"three")
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"four")
    assert (root / "f").read_bytes() == b"onetwothreefour"


@tree(file("f", b"data"), symlink("l", "f"), directory("d"), special("p", stat.S_IFIFO | 0o644))
@pytest.mark.parametrize("name", ["f", "l", "d", "p"])
def test_open_path_only(root: Path, name: str) -> None:
    """An O_PATH descriptor names any object, stats it, and reads nothing."""
    with opened(root / name, os.O_PATH | os.O_NOFOLLOW) as fd:
        assert os.fstat(fd).st_ino == os.lstat(root / name).st_ino
        with refused(errno.EBADF):
            os.read(fd, 1)


@tree(file("f", b"data"))
def test_open_path_only_survives_copy_up(root: Path) -> None:
    """A file named by O_PATH before it is written is the same file afterwards."""
    with opened(root / "f", os.O_PATH) as fd:
        (root / "f").write_bytes(b"changed")
        assert os.fstat(fd).st_size == len(b"changed")
        assert Path(f"/proc/self/fd/{fd}").read_bytes() == b"changed"


@tree(file("f", b"data"))
def test_open_beneath_a_file(root: Path) -> None:
    """A path through a file is ENOTDIR, for reading and for creating."""
    with refused(errno.ENOTDIR), opened(root / "f" / "x", os.O_RDONLY):
        pass
    with refused(errno.ENOTDIR), opened(root / "f" / "x", CREATE):
        pass


@tree(directory("d"))
def test_open_what_is_absent(root: Path) -> None:
    """An absent name, or an absent parent when creating, is ENOENT and stays absent."""
    with refused(errno.ENOENT), opened(root / "d" / "none", os.O_RDWR):
        pass
    with refused(errno.ENOENT), opened(root / "d" / "none" / "x", CREATE):
        pass
    assert names(root / "d") == set()


@tree(file("f", b"data"))
def test_open_with_a_trailing_slash(root: Path) -> None:
    """`file/` is ENOTDIR; creating `new/` is EISDIR and makes nothing."""
    with refused(errno.ENOTDIR), opened(f"{root}/f/", os.O_RDONLY):
        pass
    with refused(errno.EISDIR), opened(f"{root}/new/", CREATE):
        pass
    assert absent(root / "new")


@tree(file("f", b"data"))
def test_descriptor_modes_are_kept(root: Path) -> None:
    """A read-only descriptor refuses write and ftruncate, a write-only one refuses read."""
    with opened(root / "f", os.O_RDONLY) as fd:
        with refused(errno.EBADF):
            os.write(fd, b"x")
        with refused(errno.EINVAL):
            os.ftruncate(fd, 0)
    with opened(root / "f", os.O_WRONLY) as fd, refused(errno.EBADF):
        os.read(fd, 1)
    assert (root / "f").read_bytes() == b"data"


@tree(file("f", b"data", mode=0o000))
def test_open_read_only_does_not_change_the_file(root: Path) -> None:
    """Reading through a descriptor leaves mode, mtime and content as they were."""
    before = os.stat(root / "f")
    with opened(root / "f", os.O_RDONLY) as fd:
        assert os.read(fd, 10) == b"data"
    after = os.stat(root / "f")
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@tree(file("f", b"0123456789"))
def test_two_descriptors_have_two_offsets(root: Path) -> None:
    """Descriptors opened apart read apart; a duplicate shares its offset."""
    with opened(root / "f", os.O_RDWR) as one, opened(root / "f", os.O_RDONLY) as two:
        assert os.read(one, 4) == b"0123"
        assert os.read(two, 2) == b"01"
        copy = os.dup(one)
        assert os.read(copy, 2) == b"45"
        os.close(copy)


@tree(file("f", b"data"))
@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC, os.O_NOATIME, os.O_NONBLOCK])
def test_open_with_harmless_flags(root: Path, flag: int) -> None:
    """O_SYNC, O_DSYNC, O_NOATIME and O_NONBLOCK are taken and a write arrives."""
    with opened(root / "f", os.O_RDWR | flag) as fd:
        os.write(fd, b"DA")
    assert (root / "f").read_bytes() == b"DAta"


@tree(file("f", mode=0o640), file("x", mode=0o700), directory("d"))
def test_access_as_root(root: Path) -> None:
    """access(2) as root: reading and writing always, executing where any x bit is set."""
    access(root / "f", os.R_OK | os.W_OK)
    access(root / "x", os.X_OK)
    access(root / "d", os.R_OK | os.W_OK | os.X_OK)
    with refused(errno.EACCES):
        access(root / "f", os.X_OK)
    with refused(errno.ENOENT):
        access(root / "none", os.F_OK)


def test_creat_in_a_deleted_directory(root: Path) -> None:
    """A directory that was removed while open takes no new names."""
    os.mkdir(root / "d")
    with opened(root / "d", os.O_RDONLY) as fd:
        os.rmdir(root / "d")
        with refused(errno.ENOENT):
            os.close(os.open("x", CREATE, dir_fd=fd))


@tree(file("f", b"data", mode=0o644))
def test_mode_bits_of_a_created_file_are_not_reset_by_a_second_open(root: Path) -> None:
    """Opening for writing does not disturb suid-less mode bits."""
    with opened(root / "f", os.O_WRONLY):
        pass
    assert mode_of(root / "f") == 0o644
