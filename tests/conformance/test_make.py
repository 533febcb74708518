"""mkdir(2), mknod(2) and symlink(2): directories, special files, symbolic links."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from tests.conformance.cases import absent, mode_of, names, opened, refused, tree, union_only
from tests.conformance.tree import directory, file, special, symlink

EVERYTHING = (
    file("f", b"data"),
    directory("d"),
    symlink("l", "f"),
    symlink("dangling", "none"),
    special("p", stat.S_IFIFO | 0o600),
)
EVERY_NAME = ("f", "d", "l", "dangling", "p")
NULL = os.makedev(1, 3)


# -- mkdir --


@pytest.mark.parametrize("mode", [0o777, 0o700, 0o000, 0o1777])
def test_mkdir_applies_the_umask(root: Path, mode: int) -> None:
    """A new directory has the asked mode less the umask and is empty."""
    os.mkdir(root / "d", mode)
    assert mode_of(root / "d") == mode & ~0o022
    assert names(root / "d") == set()


@tree(*EVERYTHING)
@pytest.mark.parametrize("name", EVERY_NAME)
def test_mkdir_over_anything(root: Path, name: str) -> None:
    """mkdir refuses every existing name."""
    with refused(errno.EEXIST):
        os.mkdir(root / name)


@tree(file("f"))
def test_mkdir_without_a_parent(root: Path) -> None:
    """mkdir beneath an absent name is ENOENT, beneath a file ENOTDIR."""
    with refused(errno.ENOENT):
        os.mkdir(root / "none" / "d")
    with refused(errno.ENOTDIR):
        os.mkdir(root / "f" / "d")


@tree(file("d/inside", b"old"), directory("d/sub"))
def test_mkdir_over_a_deleted_directory_is_empty(root: Path) -> None:
    """A directory made where one was deleted shows nothing of the old one."""
    os.unlink(root / "d" / "inside")
    os.rmdir(root / "d" / "sub")
    os.rmdir(root / "d")
    os.mkdir(root / "d")
    assert names(root / "d") == set()
    with refused(errno.ENOENT):
        os.stat(root / "d" / "inside")


@tree(file("was", b"old"))
def test_mkdir_over_a_deleted_file(root: Path) -> None:
    """A directory can take the name of a deleted file."""
    os.unlink(root / "was")
    os.mkdir(root / "was")
    (root / "was" / "x").write_bytes(b"new")
    assert names(root / "was") == {"x"}


@tree(file("d/inside", b"old"))
def test_mkdir_twice_over_a_deleted_directory(root: Path) -> None:
    """Deleted, made, deleted and made again, a directory is still empty."""
    os.unlink(root / "d" / "inside")
    for _ in range(3):
        os.rmdir(root / "d")
        assert absent(root / "d")
        os.mkdir(root / "d")
    assert names(root / "d") == set()


@tree(directory("d"))
def test_mkdir_counts_links_of_the_parent(root: Path) -> None:
    """A directory's own link count is 1 (not counted) or at least 2; it never falls below."""
    os.mkdir(root / "d" / "sub")
    assert os.stat(root / "d").st_nlink != 0
    assert os.stat(root / "d" / "sub").st_nlink in (1, 2)


@tree(directory("a/b/c"))
def test_mkdir_deep_inside(root: Path) -> None:
    """A chain of directories is copied up, or not needed, for a new one at its end."""
    os.makedirs(root / "a" / "b" / "c" / "d" / "e")
    assert names(root / "a" / "b" / "c") == {"d"}
    assert names(root / "a" / "b" / "c" / "d") == {"e"}


# -- mknod --


@pytest.mark.parametrize("mode", [0o666, 0o640])
@pytest.mark.parametrize(
    ("kind", "rdev"),
    [
        (stat.S_IFREG, 0),
        (stat.S_IFIFO, 0),
        (stat.S_IFSOCK, 0),
        (stat.S_IFCHR, NULL),
        (stat.S_IFBLK, os.makedev(7, 0)),
        (stat.S_IFCHR, os.makedev(300, 70000)),
    ],
)
def test_mknod_of_every_kind(root: Path, kind: int, rdev: int, mode: int) -> None:
    """mknod makes what was asked: type, mode less umask, device numbers, large ones too."""
    os.mknod(root / "n", kind | mode, rdev)
    st = os.lstat(root / "n")
    assert st.st_mode == kind | mode & ~0o022
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        assert st.st_rdev == rdev


@tree(*EVERYTHING)
@pytest.mark.parametrize("name", EVERY_NAME)
def test_mknod_over_anything(root: Path, name: str) -> None:
    """mknod refuses every existing name."""
    with refused(errno.EEXIST):
        os.mknod(root / name, stat.S_IFIFO | 0o600)


@union_only
def test_mknod_of_the_whiteout_device(root: Path) -> None:
    """Character device 0:0 is a whiteout, so a union refuses to make one."""
    with refused(errno.EPERM):
        os.mknod(root / "n", stat.S_IFCHR | 0o600, 0)
    assert absent(root / "n")


@tree(special("null", stat.S_IFCHR | 0o666, NULL))
def test_open_a_device(root: Path) -> None:
    """A device node opens the device, not a file of the layer."""
    with opened(root / "null", os.O_RDWR) as fd:
        assert os.write(fd, b"gone") == 4
        assert os.read(fd, 10) == b""


@tree(special("null", stat.S_IFCHR | 0o600, NULL))
def test_chmod_and_chown_a_device(root: Path) -> None:
    """A device keeps its numbers when its mode and owner change."""
    os.chmod(root / "null", 0o640)
    os.chown(root / "null", 3, 4)
    st = os.lstat(root / "null")
    assert (st.st_mode, st.st_rdev) == (stat.S_IFCHR | 0o640, NULL)
    assert (st.st_uid, st.st_gid) == (3, 4)


@tree(special("p", stat.S_IFIFO | 0o600))
def test_write_and_read_a_fifo(root: Path) -> None:
    """Two openers of one fifo talk to each other."""
    with (
        opened(root / "p", os.O_RDONLY | os.O_NONBLOCK) as reader,
        opened(root / "p", os.O_WRONLY) as writer,
    ):
        os.write(writer, b"through")
        assert os.read(reader, 20) == b"through"


@tree(directory("d"))
def test_connect_to_a_socket(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bind(2) makes a socket that connect(2) finds, and not after its unlink."""
    monkeypatch.chdir(root / "d")  # socket addresses are short
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        assert stat.S_ISSOCK(os.lstat("s").st_mode)
        server.listen()
        client.connect("s")
        os.unlink("s")
        with socket.socket(socket.AF_UNIX) as late, refused(errno.ENOENT):
            late.connect("s")


# -- symlink --


@pytest.mark.parametrize("length", [1, 255, 256, 1024, 4095])
def test_symlink_target_of_length(root: Path, length: int) -> None:
    """A target of any length up to 4095 comes back whole; st_size is its length."""
    target = "/".join(["x" * 200] * 21)[:length]
    os.symlink(target, root / "l")
    assert os.readlink(root / "l") == target
    assert os.lstat(root / "l").st_size == length


def test_symlink_target_too_long(root: Path) -> None:
    """A target of 4096 bytes is ENAMETOOLONG."""
    with refused(errno.ENAMETOOLONG):
        os.symlink("x" * 4096, root / "l")
    assert absent(root / "l")


def test_symlink_target_is_any_bytes(root: Path) -> None:
    """A target need not be UTF-8, nor exist."""
    os.symlink(b"\xff\xfe \n%s", os.fsencode(root / "l"))
    assert os.readlink(os.fsencode(root / "l")) == b"\xff\xfe \n%s"


@tree(*EVERYTHING)
@pytest.mark.parametrize("name", EVERY_NAME)
def test_symlink_over_anything(root: Path, name: str) -> None:
    """symlink refuses every existing name."""
    with refused(errno.EEXIST):
        os.symlink("target", root / name)


@tree(*EVERYTHING)
@pytest.mark.parametrize("name", ["f", "d", "p"])
def test_readlink_of_what_is_none(root: Path, name: str) -> None:
    """readlink of a file, directory or fifo is EINVAL."""
    with refused(errno.EINVAL):
        os.readlink(root / name)


@tree(file("d/f", b"data"), symlink("to-dir", "d"), symlink("absolute", "/etc"))
def test_symlinks_are_followed(root: Path) -> None:
    """Relative, absolute and directory symlinks lead where they say."""
    assert (root / "to-dir" / "f").read_bytes() == b"data"
    assert names(root / "to-dir") == {"f"}
    assert os.stat(root / "absolute").st_ino == os.stat("/etc").st_ino


@tree(symlink("l", "first"), file("first", b"1"), file("second", b"2"))
def test_symlink_replaced_by_another(root: Path) -> None:
    """A symlink unlinked and made anew leads to its new target."""
    assert (root / "l").read_bytes() == b"1"
    os.unlink(root / "l")
    os.symlink("second", root / "l")
    assert (root / "l").read_bytes() == b"2"
