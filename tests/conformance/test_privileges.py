"""suid, sgid, sticky and file capabilities: kept by copy-up, dropped by changes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.cases import mode_of, opened, refused, tree
from tests.conformance.tree import directory, file, symlink
from tests.helpers.security import CAPABILITY, GROUP_ID, USER_ID, capability, run_as

NET_BIND = capability(1 << 10)
ALL_WRITE = file("f", b"program", mode=0o6777)


def append(path: Path) -> None:
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"!")


def cut(path: Path) -> None:
    os.truncate(path, 1)


def cut_open(path: Path) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.ftruncate(fd, 1)


def open_truncating(path: Path) -> None:
    with opened(path, os.O_WRONLY | os.O_TRUNC):
        pass


CHANGES = pytest.mark.parametrize("change", [append, cut, cut_open, open_truncating])


@tree(ALL_WRITE)
@CHANGES
def test_suid_is_dropped_when_a_user_changes_the_file(
    root: Path, change: Callable[[Path], None]
) -> None:
    """A write or truncate by an ordinary user takes suid and sgid from an executable."""
    run_as(lambda: change(root / "f"))
    assert mode_of(root / "f") == 0o777


@tree(ALL_WRITE)
@CHANGES
def test_suid_is_kept_when_root_changes_the_file(
    root: Path, change: Callable[[Path], None]
) -> None:
    """root with CAP_FSETID keeps suid and sgid over write and truncate."""
    change(root / "f")
    assert mode_of(root / "f") == 0o6777


@tree(file("f", b"data", mode=0o2766))
def test_sgid_without_group_execution_is_kept(root: Path) -> None:
    """sgid on a file the group may not execute means locking, and a write keeps it."""
    run_as(lambda: append(root / "f"), gid=0)
    assert mode_of(root / "f") == 0o2766


@tree(file("f", b"data", mode=0o6755, uid=3))
@pytest.mark.parametrize(("uid", "gid"), [(5, -1), (-1, 5), (5, 5), (-1, -1)])
def test_suid_is_dropped_by_chown(root: Path, uid: int, gid: int) -> None:
    """A change of owner, even by root, takes suid and sgid from an executable."""
    os.chown(root / "f", uid, gid)
    assert mode_of(root / "f") == 0o755


@tree(
    file("f", b"data", mode=0o2744, uid=USER_ID, gid=3),
    file("g", b"data", mode=0o2744, uid=USER_ID, gid=USER_ID),
    file("h", b"data", mode=0o6744, uid=USER_ID, gid=3),
)
def test_sgid_without_group_execution_is_dropped_by_a_chown_of_an_outsider(root: Path) -> None:
    """Of an owner who is not in the file's group."""

    def change() -> None:
        for name in ("f", "g", "h"):
            os.chown(root / name, -1, USER_ID)

    run_as(change, gid=USER_ID)
    assert [mode_of(root / name) for name in ("f", "g", "h")] == [0o744, 0o2744, 0o744]
    os.chmod(root / "f", 0o2744)
    os.chown(root / "f", -1, 3)
    assert mode_of(root / "f") == 0o2744, "root keeps it"


@tree(file("f", b"data", mode=0o6755, uid=3), file("g", b"data", mode=0o2755, gid=3))
def test_suid_of_another_user_is_not_dropped_by_a_chown_of_neither_id(root: Path) -> None:
    """Anybody may call that, but it would change a mode."""

    def change() -> None:
        for name in ("f", "g"):
            with refused(errno.EPERM):
                os.chown(root / name, -1, -1)

    run_as(change)
    assert (mode_of(root / "f"), mode_of(root / "g")) == (0o6755, 0o2755)


@tree(file("f", b"data", mode=0o6755, uid=USER_ID), file("g", b"data", mode=0o755, uid=3))
def test_suid_of_ones_own_is_dropped_by_a_chown_of_neither_id(root: Path) -> None:
    """The owner may, and where there is nothing to take away everybody."""
    run_as(lambda: os.chown(root / "f", -1, -1))
    run_as(lambda: os.chown(root / "g", -1, -1))
    assert (mode_of(root / "f"), mode_of(root / "g")) == (0o755, 0o755)


@tree(file("f", b"data", mode=0o6755, uid=3))
def test_suid_is_kept_by_other_changes(root: Path) -> None:
    """utimes, setxattr, link and rename leave suid alone."""
    os.utime(root / "f", ns=(1, 2))
    os.setxattr(root / "f", "user.a", b"1")
    os.link(root / "f", root / "g")
    os.rename(root / "f", root / "h")
    assert mode_of(root / "h") == mode_of(root / "g") == 0o6755
    assert os.lstat(root / "g").st_uid == 3


@tree(directory("d", mode=0o6755, uid=3))
def test_sgid_of_a_directory_is_kept_by_chown(root: Path) -> None:
    """On a directory suid and sgid are no privileges: chown keeps them."""
    os.chown(root / "d", 5, 5)
    assert mode_of(root / "d") == 0o6755


@tree(file("f", b"", mode=0o755, uid=USER_ID, gid=0))
def test_sgid_of_a_foreign_group_is_not_set(root: Path) -> None:
    """An owner outside the file's group cannot set sgid; chmod succeeds without it."""
    run_as(lambda: os.chmod(root / "f", 0o2755))
    assert mode_of(root / "f") == 0o755


@tree(file("f", b"", mode=0o755, uid=USER_ID, gid=77))
def test_sgid_of_a_supplementary_group_is_set(root: Path) -> None:
    """An owner inside the file's group, if only by a supplementary one, sets sgid."""
    run_as(lambda: os.chmod(root / "f", 0o2755), groups=(77,))
    assert mode_of(root / "f") == 0o2755


# -- sgid and sticky directories --


@tree(directory("d", mode=0o2777, gid=77))
def test_group_is_inherited_from_an_sgid_directory(root: Path) -> None:
    """Whatever is made in an sgid directory has its group; directories the bit as well."""

    def make() -> None:
        with opened(root / "d" / "f", os.O_WRONLY | os.O_CREAT, 0o666):
            pass
        os.mkdir(root / "d" / "sub")
        os.symlink("x", root / "d" / "l")
        os.mkfifo(root / "d" / "p")

    run_as(make)
    made = {name: os.lstat(root / "d" / name) for name in ("f", "sub", "l", "p")}
    assert {st.st_gid for st in made.values()} == {77}
    assert {st.st_uid for st in made.values()} == {USER_ID}
    assert stat.S_IMODE(made["sub"].st_mode) == 0o2755
    assert not made["f"].st_mode & stat.S_ISGID


@tree(directory("d", mode=0o777, gid=77))
def test_group_of_the_maker_without_sgid(root: Path) -> None:
    """Elsewhere, what is made has the maker's ids."""
    run_as(lambda: os.mkdir(root / "d" / "sub"))
    st = os.lstat(root / "d" / "sub")
    assert (st.st_uid, st.st_gid) == (USER_ID, GROUP_ID)


@tree(directory("d", mode=0o2777, gid=77))
def test_sgid_file_made_in_an_sgid_directory(root: Path) -> None:
    """A user outside the inherited group does not get an sgid executable from creat."""

    def make() -> None:
        with opened(root / "d" / "f", os.O_WRONLY | os.O_CREAT, 0o2775):
            pass

    run_as(make)
    assert mode_of(root / "d" / "f") & stat.S_ISGID == 0


@tree(
    directory("d", mode=0o1777),
    file("d/foreign", b"", mode=0o666),
    file("d/mine", b"", uid=USER_ID),
    directory("d/foreign-dir", mode=0o777),
)
def test_sticky_directory(root: Path) -> None:
    """In a sticky directory a user removes and renames only what is theirs."""

    def act() -> None:
        for path in (root / "d" / "foreign", root / "d" / "foreign-dir"):
            with refused(errno.EPERM):
                os.rename(path, root / "d" / "new")
        with refused(errno.EPERM):
            os.unlink(root / "d" / "foreign")
        with refused(errno.EPERM):
            os.rmdir(root / "d" / "foreign-dir")
        with refused(errno.EPERM):
            os.rename(root / "d" / "mine", root / "d" / "foreign")
        os.rename(root / "d" / "mine", root / "d" / "renamed")
        os.unlink(root / "d" / "renamed")

    run_as(act)
    assert sorted(os.listdir(root / "d")) == ["foreign", "foreign-dir"]


# -- file capabilities --

CAPABLE = file("f", b"program", mode=0o777, xattrs={CAPABILITY: NET_BIND})


@tree(CAPABLE)
def test_capability_is_kept_by_chmod_and_rename(root: Path) -> None:
    """A change of mode or name keeps a file's capabilities."""
    assert os.getxattr(root / "f", CAPABILITY) == NET_BIND
    os.chmod(root / "f", 0o755)
    os.rename(root / "f", root / "g")
    assert os.getxattr(root / "g", CAPABILITY) == NET_BIND


@tree(file("f", b"program", mode=0o6777, xattrs={CAPABILITY: NET_BIND}))
@CHANGES
def test_suid_is_kept_when_root_changes_a_capable_file(
    root: Path, change: Callable[[Path], None]
) -> None:
    """What takes a capability away, even from root, leaves root's suid and sgid."""
    change(root / "f")
    assert mode_of(root / "f") == 0o6777
    with refused(errno.ENODATA):
        os.getxattr(root / "f", CAPABILITY)


@tree(file("f", b"program", mode=0o6777, xattrs={CAPABILITY: NET_BIND}))
@CHANGES
def test_suid_is_dropped_when_a_user_changes_a_capable_file(
    root: Path, change: Callable[[Path], None]
) -> None:
    """A user loses all of them."""
    run_as(lambda: change(root / "f"))
    assert mode_of(root / "f") == 0o777
    with refused(errno.ENODATA):
        os.getxattr(root / "f", CAPABILITY)


@tree(CAPABLE)
def test_capability_is_kept_by_opening_for_writing(root: Path) -> None:
    """A descriptor that never writes takes nothing away."""
    with opened(root / "f", os.O_RDWR):
        pass
    assert os.getxattr(root / "f", CAPABILITY) == NET_BIND


@tree(CAPABLE)
@pytest.mark.parametrize("user", [0, USER_ID])
@CHANGES
def test_capability_is_dropped_by_a_change(
    root: Path, change: Callable[[Path], None], user: int
) -> None:
    """A write or truncate, by root too, takes a file's capabilities."""
    if user:
        run_as(lambda: change(root / "f"))
    else:
        change(root / "f")
    with refused(errno.ENODATA):
        os.getxattr(root / "f", CAPABILITY)
    assert CAPABILITY not in os.listxattr(root / "f")


@tree(CAPABLE, symlink("l", "f"))
def test_capability_is_dropped_by_chown(root: Path) -> None:
    """A change of owner takes a file's capabilities."""
    os.chown(root / "l", 5, 5)
    with refused(errno.ENODATA):
        os.getxattr(root / "f", CAPABILITY)


@tree(file("f", b"program", mode=0o755))
def test_capability_is_set_and_removed(root: Path) -> None:
    """root sets and removes capabilities; a user who owns the file does not."""
    os.setxattr(root / "f", CAPABILITY, NET_BIND)
    assert os.getxattr(root / "f", CAPABILITY) == NET_BIND
    os.removexattr(root / "f", CAPABILITY)
    os.chown(root / "f", USER_ID, GROUP_ID)
    with refused(errno.EPERM):
        run_as(lambda: os.setxattr(root / "f", CAPABILITY, NET_BIND))
