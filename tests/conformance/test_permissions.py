"""What an ordinary user may and may not do, and what stays as it was when refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.cases import mode_of, names, opened, refused, tree
from tests.conformance.tree import directory, file, symlink
from tests.helpers.calls import RENAME_EXCHANGE, access, renameat2
from tests.helpers.security import GROUP_ID, USER_ID, run_as

ROOTS = (
    directory("theirs", mode=0o755),
    file("theirs/readable", b"text", mode=0o644),
    file("theirs/secret", b"text", mode=0o600),
    file("theirs/writable", b"text", mode=0o666),
    directory("theirs/sub", mode=0o755),
    symlink("theirs/l", "secret"),
    directory("hidden", mode=0o700),
    file("hidden/f", b"text", mode=0o666),
    directory("mine", mode=0o755, uid=USER_ID, gid=GROUP_ID),
    file("mine/f", b"mine", mode=0o600, uid=USER_ID, gid=GROUP_ID),
    file("mine/roots", b"text", mode=0o600),
    file("mine/full/x", b"x"),
)
Action = Callable[[Path], object]


def write(path: Path) -> None:
    with opened(path, os.O_WRONLY):
        pass


REFUSED: dict[str, tuple[int, Action]] = {
    "read a secret": (errno.EACCES, lambda r: (r / "theirs/secret").read_bytes()),
    "read a secret by symlink": (errno.EACCES, lambda r: (r / "theirs/l").read_bytes()),
    "write the readable": (errno.EACCES, lambda r: write(r / "theirs/readable")),
    "truncate the readable": (errno.EACCES, lambda r: os.truncate(r / "theirs/readable", 0)),
    "create": (errno.EACCES, lambda r: (r / "theirs/new").write_bytes(b"")),
    "mkdir": (errno.EACCES, lambda r: os.mkdir(r / "theirs/new")),
    "mkfifo": (errno.EACCES, lambda r: os.mkfifo(r / "theirs/new")),
    "symlink": (errno.EACCES, lambda r: os.symlink("x", r / "theirs/new")),
    "link": (errno.EACCES, lambda r: os.link(r / "mine/f", r / "theirs/new")),
    "unlink": (errno.EACCES, lambda r: os.unlink(r / "theirs/writable")),
    "rmdir": (errno.EACCES, lambda r: os.rmdir(r / "theirs/sub")),
    "rename away": (errno.EACCES, lambda r: os.rename(r / "theirs/sub", r / "mine/new")),
    "rename into": (errno.EACCES, lambda r: os.rename(r / "mine/f", r / "theirs/new")),
    "exchange": (
        errno.EACCES,
        lambda r: renameat2(r / "mine/f", r / "theirs/writable", RENAME_EXCHANGE),
    ),
    "chmod": (errno.EPERM, lambda r: os.chmod(r / "theirs/writable", 0o600)),
    "chmod in one's directory": (errno.EPERM, lambda r: os.chmod(r / "mine/roots", 0o666)),
    "chown to oneself": (errno.EPERM, lambda r: os.chown(r / "theirs/writable", USER_ID, -1)),
    "give away": (errno.EPERM, lambda r: os.chown(r / "mine/f", 0, -1)),
    "chgrp to a foreign group": (errno.EPERM, lambda r: os.chown(r / "mine/f", -1, 0)),
    "set times": (errno.EPERM, lambda r: os.utime(r / "theirs/writable", ns=(1, 2))),
    "touch the readable": (errno.EACCES, lambda r: os.utime(r / "theirs/readable")),
    "list the hidden": (errno.EACCES, lambda r: os.listdir(r / "hidden")),
    "read in the hidden": (errno.EACCES, lambda r: (r / "hidden/f").read_bytes()),
    "stat in the hidden": (errno.EACCES, lambda r: os.stat(r / "hidden/f")),
    "stat the absent in the hidden": (errno.EACCES, lambda r: os.stat(r / "hidden/none")),
    "device": (errno.EPERM, lambda r: os.mknod(r / "mine/new", 0o020600, os.makedev(1, 3))),
    "O_NOATIME": (
        errno.EPERM,
        lambda r: os.close(os.open(r / "theirs/readable", os.O_RDONLY | os.O_NOATIME)),
    ),
    "xattr": (errno.EACCES, lambda r: os.setxattr(r / "theirs/readable", "user.a", b"1")),
}


def picture(root: Path) -> list[tuple[str, int, int, int, int]]:
    """Return what a refused action must not change."""
    found = []
    for folder, subdirs, files in os.walk(root):
        for name in sorted(subdirs + files):
            path = os.path.join(folder, name)
            st = os.lstat(path)
            found.append((path, st.st_mode, st.st_uid, st.st_size, st.st_mtime_ns))
    return sorted(found)


@tree(*ROOTS)
@pytest.mark.parametrize("what", REFUSED)
def test_refused(root: Path, what: str) -> None:
    """What an ordinary user may not is refused with its errno and changes nothing."""
    code, act = REFUSED[what]
    before = picture(root)
    with refused(code):
        run_as(lambda: act(root))
    assert picture(root) == before


@tree(*ROOTS)
def test_own_directory(root: Path) -> None:
    """In a directory of one's own everything goes, root's files in it included."""
    mine = root / "mine"

    def act() -> None:
        (mine / "new").write_bytes(b"new")
        os.chmod(mine / "new", 0o640)
        os.utime(mine / "new", ns=(1, 2))
        os.mkdir(mine / "dir")
        os.rename(mine / "new", mine / "dir" / "new")
        os.symlink("x", mine / "l")
        os.link(mine / "f", mine / "g")
        os.unlink(mine / "roots")
        with opened(mine / "f", os.O_RDWR | os.O_APPEND) as fd:
            os.write(fd, b"!")

    run_as(act)
    assert names(mine) == {"f", "g", "l", "dir", "full"}
    st = os.lstat(mine / "dir" / "new")
    assert (st.st_uid, st.st_gid, st.st_mtime_ns) == (USER_ID, GROUP_ID, 2)
    assert (mine / "f").read_bytes() == b"mine!"


@tree(*ROOTS)
def test_own_file_under_a_change_of_group(root: Path) -> None:
    """The owner hands a file to a supplementary group of theirs."""
    run_as(lambda: os.chown(root / "mine" / "f", -1, 77), groups=(77,))
    assert os.lstat(root / "mine" / "f").st_gid == 77


@tree(*ROOTS)
def test_write_what_others_may_write(root: Path) -> None:
    """A file that all may write keeps its owner when a user does."""
    run_as(lambda: (root / "theirs" / "writable").write_bytes(b"by a user"))
    st = os.lstat(root / "theirs" / "writable")
    assert (st.st_uid, st.st_gid, mode_of(root / "theirs" / "writable")) == (0, 0, 0o666)
    assert (root / "theirs" / "writable").read_bytes() == b"by a user"


@tree(*ROOTS)
def test_touch_what_others_may_write(root: Path) -> None:
    """Write access is enough to set the times to now."""
    before = os.stat(root / "theirs" / "writable").st_mtime_ns
    run_as(lambda: os.utime(root / "theirs" / "writable"))
    assert os.stat(root / "theirs" / "writable").st_mtime_ns > before


@tree(directory("d", mode=0o770, gid=77), file("d/f", b"group", mode=0o060, gid=77))
@pytest.mark.parametrize("member", [True, False])
def test_supplementary_groups(root: Path, member: bool) -> None:
    """Members of a directory's and a file's group get what the group may."""

    def act() -> None:
        assert (root / "d" / "f").read_bytes() == b"group"
        with opened(root / "d" / "f", os.O_WRONLY) as fd:
            os.write(fd, b"GROUP")
        (root / "d" / "new").write_bytes(b"")

    if member:
        run_as(act, groups=(5, 77))
        assert names(root / "d") == {"f", "new"}
    else:
        with refused(errno.EACCES):
            run_as(act, groups=(5,))


@tree(file("f", b"data", mode=0o044, uid=USER_ID))
def test_owner_with_fewer_rights_than_others(root: Path) -> None:
    """The owner's bits count for the owner even where others may more."""
    with refused(errno.EACCES):
        run_as(lambda: (root / "f").read_bytes())
    assert run_as(lambda: (root / "f").read_bytes(), uid=USER_ID + 1) == b"data"


@tree(*ROOTS)
def test_access_as_a_user(root: Path) -> None:
    """access(2) tells what open would do."""

    def act() -> None:
        access(root / "theirs" / "readable", os.R_OK)
        access(root / "theirs" / "writable", os.R_OK | os.W_OK)
        for name, mode in (("readable", os.W_OK), ("secret", os.R_OK), ("writable", os.X_OK)):
            with refused(errno.EACCES):
                access(root / "theirs" / name, mode)

    run_as(act)


@tree(*ROOTS, directory("maze", mode=0o711), file("maze/known", b"found", mode=0o644))
def test_search_without_reading(root: Path) -> None:
    """A directory that may be searched but not read gives up names one knows."""

    def act() -> None:
        assert (root / "maze" / "known").read_bytes() == b"found"
        with refused(errno.EACCES):
            os.listdir(root / "maze")

    run_as(act)


@tree(directory("d", mode=0o777), file("d/f", b"secret", mode=0o600))
def test_owner_of_what_a_user_replaces(root: Path) -> None:
    """A user replaces root's file in a directory all may write; the new one is the user's."""

    def act() -> None:
        (root / "d" / "tmp").write_bytes(b"user's")
        os.rename(root / "d" / "tmp", root / "d" / "f")

    run_as(act)
    st = os.lstat(root / "d" / "f")
    assert (st.st_uid, st.st_gid, st.st_size) == (USER_ID, GROUP_ID, 6)


@tree(directory("d", mode=0o777))
def test_ids_of_what_large_users_make(root: Path) -> None:
    """A user and group with the largest ids own what they make."""
    uid, gid = 2**32 - 2, 2**32 - 3
    run_as(lambda: os.mkdir(root / "d" / "new"), uid=uid, gid=gid)
    st = os.lstat(root / "d" / "new")
    assert (st.st_uid, st.st_gid) == (uid, gid)


@tree(directory("d", mode=0o777, uid=USER_ID), file("d/f", b"x", mode=0o666))
def test_mode_of_a_file_opened_before_it_was_closed_off(root: Path) -> None:
    """A descriptor keeps the rights it was opened with."""
    with opened(root / "d" / "f", os.O_RDWR) as fd:
        os.chmod(root / "d" / "f", 0o000)
        os.chmod(root / "d", 0o000)
        os.write(fd, b"y")
        assert os.pread(fd, 5, 0) == b"y"
