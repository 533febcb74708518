"""Extended attributes of every namespace, on every kind of object."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.cases import opened, refused, tree, union_only
from tests.conformance.tree import directory, file, special, symlink
from tests.helpers.mounts import DEADLINE
from tests.helpers.security import USER_ID, run_as

KINDS = (
    file("f", b"data", xattrs={"user.old": b"old", "trusted.old": b"t", "security.old": b"s"}),
    directory("d", xattrs={"user.old": b"old", "trusted.old": b"t", "security.old": b"s"}),
    symlink("l", "f", xattrs={"trusted.old": b"t", "security.old": b"s"}),
    special("p", stat.S_IFIFO | 0o600),
)


def names_of(path: Path) -> set[str]:
    """Return the names listxattr(2) gives, symlinks not followed."""
    listed = os.listxattr(path, follow_symlinks=False)
    assert len(set(listed)) == len(listed)
    return set(listed)


@tree(*KINDS)
@pytest.mark.parametrize("namespace", ["user", "trusted", "security"])
@pytest.mark.parametrize("name", ["f", "d"])
def test_set_get_list_remove(root: Path, name: str, namespace: str) -> None:
    """The life of an xattr, beside one that was there before."""
    path, new, old = root / name, f"{namespace}.new", f"{namespace}.old"
    os.setxattr(path, new, b"value\0with\xff")
    assert os.getxattr(path, new) == b"value\0with\xff"
    assert {new, old} <= names_of(path)
    os.setxattr(path, new, b"")
    assert os.getxattr(path, new) == b""
    os.removexattr(path, new)
    with refused(errno.ENODATA):
        os.getxattr(path, new)
    assert new not in names_of(path)
    assert old in names_of(path)


@tree(*KINDS)
@pytest.mark.parametrize("name", ["f", "d", "l"])
def test_change_and_remove_what_was_there(root: Path, name: str) -> None:
    """An xattr of the tree is replaced, then removed and stays away."""
    path = root / name
    os.setxattr(path, "trusted.old", b"changed", follow_symlinks=False)
    assert os.getxattr(path, "trusted.old", follow_symlinks=False) == b"changed"
    os.removexattr(path, "trusted.old", follow_symlinks=False)
    with refused(errno.ENODATA):
        os.getxattr(path, "trusted.old", follow_symlinks=False)
    assert names_of(path) >= {"security.old"}
    assert "trusted.old" not in names_of(path)


@tree(*KINDS)
def test_xattrs_of_a_symlink(root: Path) -> None:
    """A symlink has trusted and security xattrs of its own and no user ones."""
    os.setxattr(root / "l", "trusted.new", b"1", follow_symlinks=False)
    assert names_of(root / "l") == {"trusted.old", "trusted.new", "security.old"}
    with refused(errno.EPERM):
        os.setxattr(root / "l", "user.a", b"1", follow_symlinks=False)
    assert os.getxattr(root / "l", "user.old") == b"old"


@tree(*KINDS)
def test_user_xattrs_of_a_fifo(root: Path) -> None:
    """User xattrs are for files and directories."""
    with refused(errno.EPERM):
        os.setxattr(root / "p", "user.a", b"1")
    os.setxattr(root / "p", "trusted.a", b"1")
    assert names_of(root / "p") == {"trusted.a"}


@tree(*KINDS)
@pytest.mark.parametrize("name", ["f", "d"])
def test_create_and_replace_flags(root: Path, name: str) -> None:
    """XATTR_CREATE refuses what is there, XATTR_REPLACE what is not."""
    path = root / name
    with refused(errno.EEXIST):
        os.setxattr(path, "user.old", b"new", os.XATTR_CREATE)
    with refused(errno.ENODATA):
        os.setxattr(path, "user.new", b"new", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.old") == b"old"
    assert "user.new" not in names_of(path)
    os.setxattr(path, "user.new", b"1", os.XATTR_CREATE)
    os.setxattr(path, "user.old", b"2", os.XATTR_REPLACE)
    assert (os.getxattr(path, "user.new"), os.getxattr(path, "user.old")) == (b"1", b"2")


@tree(*KINDS)
def test_absent_xattrs(root: Path) -> None:
    """Reading and removing what is not there is ENODATA; on an absent file ENOENT."""
    for path in (root / "f", root / "d"):
        with refused(errno.ENODATA):
            os.getxattr(path, "user.none")
        with refused(errno.ENODATA):
            os.removexattr(path, "user.none")
    with refused(errno.ENOENT):
        os.getxattr(root / "none", "user.a")


@tree(*KINDS)
def test_impossible_names(root: Path) -> None:
    """A name without namespace is EOPNOTSUPP, an empty one and one too long ERANGE."""
    with refused(errno.EOPNOTSUPP):
        os.setxattr(root / "f", "nonamespace", b"1")
    with refused(errno.EOPNOTSUPP):
        os.getxattr(root / "f", "strange.name")
    with refused(errno.ERANGE):
        os.setxattr(root / "f", "", b"1")
    with refused(errno.ERANGE):
        os.setxattr(root / "f", "user." + "x" * 251, b"1")


@tree(*KINDS)
def test_values_too_large(root: Path) -> None:
    """Beyond 64 KiB is E2BIG; the old value stays."""
    with refused(errno.E2BIG):
        os.setxattr(root / "f", "user.old", b"x" * 65537)
    assert os.getxattr(root / "f", "user.old") == b"old"


@tree(*KINDS)
def test_long_names_and_values(root: Path) -> None:
    """A name of 255 bytes that is not UTF-8, and a value of some KiB."""
    name = b"user." + b"\xff" * 250
    os.setxattr(root / "f", name, b"v" * 2000)
    assert os.getxattr(root / "f", name) == b"v" * 2000
    assert os.fsdecode(name) in names_of(root / "f")


@tree(*KINDS)
def test_many_xattrs(root: Path) -> None:
    """Dozens of xattrs on one file are all listed, and all kept over a write."""
    expected = {f"user.number-{n}": b"%d" % n for n in range(40)}
    for name, value in expected.items():
        os.setxattr(root / "f", name, value)
    (root / "f").write_bytes(b"new")
    assert names_of(root / "f") >= set(expected)
    assert {name: os.getxattr(root / "f", name) for name in expected} == expected


@tree(*KINDS)
def test_xattrs_by_descriptor(root: Path) -> None:
    """Through a descriptor for reading, of a file or a directory."""
    for name in ("f", "d"):
        with opened(root / name, os.O_RDONLY) as fd:
            os.setxattr(fd, "user.new", b"1")
            assert os.getxattr(root / name, "user.new") == b"1"
            os.removexattr(fd, "user.new")
            assert "user.new" not in os.listxattr(fd)


@tree(*KINDS)
def test_xattrs_are_kept_by_copy_up(root: Path) -> None:
    """All namespaces survive a write to the file and an entry made in the directory."""
    kept = {"user.old", "trusted.old", "security.old"}
    with opened(root / "f", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"more")
    (root / "d" / "new").write_bytes(b"")
    os.lchown(root / "l", 5, 5)
    assert names_of(root / "f") == kept
    assert names_of(root / "d") == kept
    assert names_of(root / "l") == {"trusted.old", "security.old"}


@tree(*KINDS, file("mine", b"", uid=USER_ID, xattrs={"trusted.a": b"t", "user.a": b"1"}))
def test_namespaces_of_an_ordinary_user(root: Path) -> None:
    """A user neither sees nor sets trusted xattrs, and sets user ones on writable files only."""

    def act() -> None:
        assert set(os.listxattr(root / "mine")) == {"user.a"}
        os.setxattr(root / "mine", "user.b", b"2")
        with refused(errno.ENODATA):
            os.getxattr(root / "mine", "trusted.a")
        with refused(errno.EPERM):
            os.setxattr(root / "mine", "trusted.a", b"x")
        with refused(errno.EACCES):
            os.setxattr(root / "f", "user.old", b"x")
        assert os.getxattr(root / "f", "user.old") == b"old"

    run_as(act)
    assert os.getxattr(root / "mine", "trusted.a") == b"t"


@tree(*KINDS)
def test_root_without_capabilities_sees_no_trusted_names(root: Path) -> None:
    """As in a container: a program that copies all attributes must not stumble over them."""
    script = "import os, sys; print(*sorted(os.listxattr(sys.argv[1])))"
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", script, root / "f"],
        timeout=DEADLINE, capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["security.old", "user.old"]


@tree(*KINDS)
def test_setxattr_moves_ctime_only(root: Path) -> None:
    """Setting an xattr leaves mtime and content."""
    before = os.stat(root / "f")
    os.setxattr(root / "f", "user.new", b"1")
    after = os.stat(root / "f")
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_ctime_ns >= before.st_ctime_ns
    assert (root / "f").read_bytes() == b"data"


# -- the union's own --


@union_only
@tree(*KINDS)
def test_private_xattrs_are_not_listed(root: Path) -> None:
    """What the union notes on copied-up and made objects is nobody's business."""
    os.chmod(root / "f", 0o600)
    os.rename(root / "d", root / "moved")
    os.mkdir(root / "d")
    for path in (root, root / "f", root / "moved", root / "d"):
        assert not [name for name in os.listxattr(path) if ".overlay." in name]
        for name in ("opaque", "origin", "redirect", "impure", "metacopy"):
            with refused(errno.ENODATA):
                os.getxattr(path, f"trusted.overlay.{name}")


@union_only
@tree(*KINDS)
def test_private_names_can_be_used(root: Path) -> None:
    """A user's xattr of such a name is kept, told back, and does not act on the union."""
    os.setxattr(root / "d", "trusted.overlay.opaque", b"y")
    (root / "d" / "new").write_bytes(b"")
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"
    assert "trusted.overlay.opaque" in os.listxattr(root / "d")
    os.removexattr(root / "d", "trusted.overlay.opaque")
    with refused(errno.ENODATA):
        os.getxattr(root / "d", "trusted.overlay.opaque")
    assert os.listdir(root / "d") == ["new"]
