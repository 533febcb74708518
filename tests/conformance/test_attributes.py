"""chmod, chown and utimensat, by name and descriptor, on every kind of object."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.conformance.cases import mode_of, opened, refused, tree
from tests.conformance.tree import OLD_NS, directory, file, special, symlink
from tests.helpers.calls import (
    AT_SYMLINK_NOFOLLOW,
    UTIME_NOW,
    UTIME_OMIT,
    next_tick,
    utimensat,
)

KINDS = (
    file("f", b"data", mode=0o640, xattrs={"user.a": b"1"}),
    file("d/inside", b"inside"),
    special("p", stat.S_IFIFO | 0o600),
    special("c", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    special("s", stat.S_IFSOCK | 0o600),
    symlink("l", "f"),
    symlink("dangling", "none"),
)
NAMES = ("f", "d", "p", "c", "s")
LARGE_ID = 2**32 - 2


# -- chmod --


@tree(*KINDS)
@pytest.mark.parametrize("mode", [0o000, 0o755, 0o1777, 0o6751])
@pytest.mark.parametrize("name", NAMES)
def test_chmod(root: Path, name: str, mode: int) -> None:
    """All twelve bits are set; type, owner and mtime stay."""
    before = os.lstat(root / name)
    os.chmod(root / name, mode)
    after = os.lstat(root / name)
    assert after.st_mode == stat.S_IFMT(before.st_mode) | mode
    assert (after.st_uid, after.st_mtime_ns) == (before.st_uid, before.st_mtime_ns)
    assert after.st_ino == before.st_ino


@tree(*KINDS)
def test_chmod_keeps_the_content(root: Path) -> None:
    """Content and xattrs of a file, and the entries of a directory, stay."""
    os.chmod(root / "f", 0o600)
    os.chmod(root / "d", 0o700)
    assert (root / "f").read_bytes() == b"data"
    assert os.getxattr(root / "f", "user.a") == b"1"
    assert (root / "d" / "inside").read_bytes() == b"inside"


@tree(*KINDS)
def test_chmod_through_a_symlink(root: Path) -> None:
    """chmod follows a symlink; through a dangling one it is ENOENT."""
    os.chmod(root / "l", 0o600)
    assert mode_of(root / "f") == 0o600
    with refused(errno.ENOENT):
        os.chmod(root / "dangling", 0o600)


@tree(*KINDS)
def test_fchmod_of_a_directory(root: Path) -> None:
    """fchmod through a directory's descriptor."""
    with opened(root / "d", os.O_RDONLY) as fd:
        os.fchmod(fd, 0o711)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o711
    assert mode_of(root / "d") == 0o711


@tree(*KINDS)
def test_chmod_to_the_mode_it_has(root: Path) -> None:
    """A chmod that changes nothing still succeeds and moves ctime."""
    before = os.lstat(root / "f")
    next_tick()
    os.chmod(root / "f", 0o640)
    after = os.lstat(root / "f")
    assert after.st_mode == before.st_mode
    assert after.st_ctime_ns > before.st_ctime_ns


# -- chown --


@tree(*KINDS)
@pytest.mark.parametrize("name", [*NAMES, "l", "dangling"])
@pytest.mark.parametrize(("uid", "gid"), [(5, 6), (5, -1), (-1, 6), (-1, -1), (LARGE_ID, LARGE_ID)])
def test_lchown(root: Path, name: str, uid: int, gid: int) -> None:
    """Owner and group are set apart or together, symlinks not followed, ids up to 2^32-2."""
    before = os.lstat(root / name)
    os.lchown(root / name, uid, gid)
    after = os.lstat(root / name)
    assert after.st_uid == (before.st_uid if uid == -1 else uid)
    assert after.st_gid == (before.st_gid if gid == -1 else gid)
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    assert after.st_mtime_ns == before.st_mtime_ns


@tree(*KINDS)
def test_chown_through_a_symlink(root: Path) -> None:
    """chown follows a symlink and leaves the symlink's own owner."""
    os.chown(root / "l", 5, 6)
    assert (os.lstat(root / "f").st_uid, os.lstat(root / "f").st_gid) == (5, 6)
    assert os.lstat(root / "l").st_uid == 0


@tree(*KINDS)
@pytest.mark.parametrize("name", ["f", "d"])
def test_fchown(root: Path, name: str) -> None:
    """fchown through a read-only descriptor shows by name."""
    with opened(root / name, os.O_RDONLY) as fd:
        os.fchown(fd, 7, 8)
        assert (os.fstat(fd).st_uid, os.fstat(fd).st_gid) == (7, 8)
    st = os.lstat(root / name)
    assert (st.st_uid, st.st_gid) == (7, 8)


@tree(file("f", b"data", uid=LARGE_ID, gid=LARGE_ID - 1), directory("d", uid=70_000, gid=70_001))
def test_large_ids_are_shown(root: Path) -> None:
    """Ids beyond 16 and 31 bits are shown as they are, and kept over a change of mode."""
    os.chmod(root / "f", 0o600)
    st = os.lstat(root / "f")
    assert (st.st_uid, st.st_gid) == (LARGE_ID, LARGE_ID - 1)
    st = os.lstat(root / "d")
    assert (st.st_uid, st.st_gid) == (70_000, 70_001)


# -- times --


@tree(*KINDS)
@pytest.mark.parametrize("name", [*NAMES, "l", "dangling"])
def test_utimes(root: Path, name: str) -> None:
    """Both times are set to the ns, symlinks not followed; ctime moves to now."""
    before = os.lstat(root / name)
    next_tick()
    os.utime(root / name, ns=(1_234_567_890_987_654_321, 1_111), follow_symlinks=False)
    after = os.lstat(root / name)
    assert (after.st_atime_ns, after.st_mtime_ns) == (1_234_567_890_987_654_321, 1_111)
    assert after.st_ctime_ns > before.st_ctime_ns
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)


@tree(*KINDS)
@pytest.mark.parametrize("name", ["f", "d", "l"])
def test_utimes_omit(root: Path, name: str) -> None:
    """UTIME_OMIT leaves one time, both, or none alone."""
    utimensat(root / name, (0, UTIME_OMIT), (77, 88), AT_SYMLINK_NOFOLLOW)
    st = os.lstat(root / name)
    assert (st.st_atime_ns, st.st_mtime_ns) == (OLD_NS, 77_000_000_088)
    utimensat(root / name, (55, 66), (0, UTIME_OMIT), AT_SYMLINK_NOFOLLOW)
    st = os.lstat(root / name)
    assert (st.st_atime_ns, st.st_mtime_ns) == (55_000_000_066, 77_000_000_088)
    utimensat(root / name, (0, UTIME_OMIT), (0, UTIME_OMIT), AT_SYMLINK_NOFOLLOW)
    st = os.lstat(root / name)
    assert (st.st_atime_ns, st.st_mtime_ns) == (55_000_000_066, 77_000_000_088)


@tree(*KINDS)
@pytest.mark.parametrize("name", ["f", "d", "l"])
def test_utimes_now(root: Path, name: str) -> None:
    """UTIME_NOW sets the present time, beside a given one too."""
    utimensat(root / name, (5, 5), (0, UTIME_NOW), AT_SYMLINK_NOFOLLOW)
    st = os.lstat(root / name)
    assert st.st_atime_ns == 5_000_000_005
    assert st.st_mtime_ns > OLD_NS
    utimensat(root / name, (0, UTIME_NOW), (5, 5), AT_SYMLINK_NOFOLLOW)
    st = os.lstat(root / name)
    assert st.st_mtime_ns == 5_000_000_005
    assert st.st_atime_ns > OLD_NS


@tree(*KINDS)
def test_utimes_through_a_symlink(root: Path) -> None:
    """utimensat follows a symlink unless told not to."""
    os.utime(root / "l", ns=(1, 2))
    assert os.lstat(root / "f").st_mtime_ns == 2
    assert os.lstat(root / "l").st_mtime_ns == OLD_NS


@tree(*KINDS)
@pytest.mark.parametrize("second", [-1, -(2**30), 2**31 + 5, 2**33])
def test_utimes_before_1970_and_after_2038(root: Path, second: int) -> None:
    """Times before the epoch and beyond 32 bits are kept."""
    os.utime(root / "f", ns=(second * 10**9, second * 10**9 + 1))
    st = os.lstat(root / "f")
    assert (st.st_atime_ns, st.st_mtime_ns) == (second * 10**9, second * 10**9 + 1)


@tree(*KINDS)
def test_utimes_of_what_is_absent(root: Path) -> None:
    """An absent name is ENOENT, an impossible count of ns EINVAL."""
    with refused(errno.ENOENT):
        os.utime(root / "none")
    with refused(errno.EINVAL):
        utimensat(root / "f", (0, 10**9), (0, 0))


@tree(*KINDS)
def test_all_attributes_one_after_another(root: Path) -> None:
    """Each change keeps what those before it set."""
    os.setxattr(root / "f", "user.b", b"2")
    os.chown(root / "f", 5, 6)
    os.chmod(root / "f", 0o4750)
    with opened(root / "f", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b" more")
    os.utime(root / "f", ns=(1, 2))
    st = os.lstat(root / "f")
    assert (st.st_uid, st.st_gid, st.st_mtime_ns, st.st_size) == (5, 6, 2, 9)
    assert {name: os.getxattr(root / "f", name) for name in ("user.a", "user.b")} == {
        "user.a": b"1",
        "user.b": b"2",
    }
