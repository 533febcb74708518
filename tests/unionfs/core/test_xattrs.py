"""Private names hidden and escaped, so that unions nest; capabilities and ACLs carried along."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.helpers import security
from tests.helpers.layers import Layers
from tests.helpers.mounts import require_root, run
from tests.helpers.unions import errno_of
from unionfs.core import setup
from unionfs.syscalls import xattr
from unionfs.syscalls.statfs import RAMFS

CAPABILITY = bytes.fromhex("0100000200000000000000000000000000000000")


@pytest.mark.parametrize("userxattr", [False, True], ids=["trusted", "user"])
def test_private_names_are_escaped(tmp_path: Path, userxattr: bool) -> None:
    prefix = "user.overlay." if userxattr else "trusted.overlay."
    layers = Layers(tmp_path, {"d": {"file": "x"}})
    with layers.union(userxattr=userxattr) as tree:
        tree.setxattr(b"d", prefix + "opaque", b"y", 0)
        assert tree.listxattr(b"d") == [prefix + "opaque"]
        assert tree.getxattr(b"d", prefix + "opaque") == b"y"
        assert [entry.name for entry in tree.listdir(b"d")] == [b"file"]
        tree.rename(b"d", b"e", 0)
        assert errno_of(lambda: tree.getxattr(b"e", prefix + "redirect")) == errno.ENODATA
        assert errno_of(lambda: tree.removexattr(b"e", prefix + "redirect")) == errno.ENODATA
    assert os.getxattr(layers.upper / "e", prefix + "overlay.opaque") == b"y"
    seen = layers.look(userxattr=userxattr)
    assert seen[b"e"].xattrs == {prefix + "opaque": b"y"}
    with layers.union(userxattr=userxattr) as tree:
        tree.removexattr(b"e", prefix + "opaque")
        assert tree.listxattr(b"e") == []


def test_escaped_names_of_a_lower_are_copied_up(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    os.setxattr(layers.lowers[0] / "file", "trusted.overlay.overlay.metacopy", b"z")
    with layers.union() as tree:
        tree.chmod(b"file", 0o600)
    assert layers.look()[b"file"].xattrs == {"trusted.overlay.metacopy": b"z"}


def test_the_names_of_the_other_form_are_ordinary(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"file": ""}})
    os.setxattr(layers.lowers[0] / "d", "user.overlay.opaque", b"y")
    with layers.union(userxattr=False) as tree:
        assert tree.listxattr(b"d") == ["user.overlay.opaque"]


def test_a_name_too_long_to_be_escaped(tmp_path: Path) -> None:
    with Layers(tmp_path, {"file": ""}).union() as tree:
        name = "trusted.overlay." + "n" * 239
        assert errno_of(lambda: tree.setxattr(b"file", name, b"", 0)) == errno.EOPNOTSUPP


def test_names_of_fuse_overlayfs_are_hidden(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": ""})
    name = "user.fuseoverlayfs.origin"
    os.setxattr(layers.lowers[0] / "file", name, b"1")
    with layers.union() as tree:
        assert tree.listxattr(b"file") == []
        assert errno_of(lambda: tree.setxattr(b"file", name, b"2", 0)) == errno.EPERM
        tree.chmod(b"file", 0o600)
    assert name not in os.listxattr(layers.upper / "file")


def test_removing_what_is_not_there_copies_nothing(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": ""})
    with layers.union() as tree:
        assert errno_of(lambda: tree.removexattr(b"file", "user.none")) == errno.ENODATA
        change = os.XATTR_REPLACE
        assert errno_of(lambda: tree.setxattr(b"file", "user.none", b"", change)) == errno.ENODATA
    assert os.listdir(layers.upper) == []


def test_an_acl_that_is_not_there_can_be_removed(tmp_path: Path) -> None:
    """As on ext4; chmod and setfacl do so."""
    layers = Layers(tmp_path, {"file": "", "d": {}})
    with layers.union() as tree:
        tree.removexattr(b"file", security.ACCESS)
        tree.removexattr(b"d", security.DEFAULT)
    assert os.listdir(layers.upper) == []


def test_a_filesystem_without_acls_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS 4: with EOPNOTSUPP the kernel would let nobody but the owner at a file."""
    require_root()
    layers = Layers(tmp_path)
    run("mount", "-t", "ramfs", "none", layers.lowers[0])
    try:
        (layers.lowers[0] / "file").write_text("x")
        monkeypatch.setattr(setup, "is_remote", lambda fs_type: fs_type == RAMFS)
        with layers.union() as tree:
            for name in (security.ACCESS, security.DEFAULT):
                for path in (b"file", b""):
                    assert errno_of(partial(tree.getxattr, path, name)) == errno.ENODATA
            assert errno_of(lambda: tree.getxattr(b"file", "user.a")) == errno.EOPNOTSUPP
    finally:
        run("umount", layers.lowers[0])


def test_capabilities_and_acls_are_copied_up(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    capability = security.capability(1 << 10)
    os.setxattr(layers.lowers[0] / "file", security.CAPABILITY, capability)
    access = security.acl(
        (security.USER_OBJ, 6),
        (security.USER, 4, 77),
        (security.GROUP_OBJ, 4),
        (security.MASK, 4),
        (security.OTHER, 0),
    )
    os.setxattr(layers.lowers[0] / "file", security.ACCESS, access)
    with layers.union() as tree:
        tree.utimens(b"file", 1, 2)
        assert tree.getxattr(b"file", security.CAPABILITY) == capability
        assert tree.getxattr(b"file", security.ACCESS) == access
        assert tree.lstat(b"file").mode & 0o777 == 0o640


def test_a_malformed_capability_is_not_copied_and_can_be_removed(tmp_path: Path) -> None:
    """Root of a container can give a file one; overlayfs then copies the file up no more."""
    require_root()
    name = "security.capability"
    layers = Layers(tmp_path, {"file": "x"})
    os.setxattr(layers.lowers[0] / "file", name, b"")
    with layers.union() as tree:
        tree.chmod(b"file", 0o600)
        assert tree.listxattr(b"file") == []
        tree.setxattr(b"file", name, b"", 0)
        tree.removexattr(b"file", name)
        assert tree.listxattr(b"file") == []
    assert (layers.upper / "file").read_text() == "x"


def test_a_new_file_has_a_capability_once_one_is_set(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {})
    name, value = security.CAPABILITY, CAPABILITY
    with layers.union() as tree:
        tree.create(b"new", 0o755)
        with pytest.raises(OSError) as caught:
            tree.getxattr(b"new", name)
        assert caught.value.errno == errno.ENODATA
        tree.setxattr(b"new", name, value, 0)
        assert tree.getxattr(b"new", name) == value


def test_attributes_of_what_is_not_in_the_upper(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x", "d": {"inner": ""}})
    lower = layers.lowers[0]
    os.symlink("file", lower / "link")
    long = b"v" * 2000
    names = (b"file", b"d", b"d/inner")
    for name in names:
        os.setxattr(lower / os.fsdecode(name), "user.a", b"1")
        os.setxattr(lower / os.fsdecode(name), "user.long", long)
    with layers.union() as tree:
        for name in names:
            assert sorted(tree.listxattr(name)) == ["user.a", "user.long"]
            assert tree.getxattr(name, "user.a") == b"1"
            assert tree.getxattr(name, "user.long") == long
            assert errno_of(partial(tree.getxattr, name, "user.b")) == errno.ENODATA
            assert errno_of(partial(tree.getxattr, name, "unknown.b")) == errno.EOPNOTSUPP
        assert tree.listxattr(b"link") == []
        assert errno_of(lambda: tree.getxattr(b"link", "user.a")) == errno.ENODATA
        # The name in the lower leads to the file under its new name too.
        tree.rename(b"d", b"e", 0)
        assert tree.getxattr(b"e/inner", "user.a") == b"1"
        tree.unlink(b"e/inner")
        tree.setxattr(b"file", "user.a", b"2", 0)
        assert tree.getxattr(b"file", "user.a") == b"2"
    assert os.getxattr(lower / "file", "user.a") == b"1"


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The names of the files whose attributes are listed by a system call."""
    listed: list[bytes] = []
    list_at = xattr.list_at

    def noting(dir_fd: int, name: bytes) -> list[str]:
        listed.append(name)
        return list_at(dir_fd, name)

    monkeypatch.setattr(xattr, "list_at", noting)
    return listed


@pytest.mark.parametrize("lowers", [1, 2], ids=["bottom", "above"])
def test_the_names_of_a_lower_file_are_read_once(
    tmp_path: Path, listings: list[bytes], lowers: int
) -> None:
    layers = Layers(tmp_path, {"plain": "x", "other": "x"}, *[{}] * (lowers - 1))
    os.setxattr(layers.lowers[0] / "other", "user.a", b"1")
    with layers.union() as tree:
        tree.get(b"plain")
        for _ in range(2):
            for name in (security.CAPABILITY, security.ACCESS):
                assert errno_of(partial(tree.getxattr, b"plain", name)) == errno.ENODATA
            assert tree.listxattr(b"plain") == []
            assert tree.listxattr(b"other") == ["user.a"]
        assert sorted(listings) == [b"other", b"plain"]
        # Once it is copied up they may change.
        tree.setxattr(b"plain", security.CAPABILITY, CAPABILITY, 0)
        assert tree.listxattr(b"plain") == [security.CAPABILITY]
        assert tree.getxattr(b"plain", security.CAPABILITY) == CAPABILITY
        tree.removexattr(b"plain", security.CAPABILITY)
        assert tree.listxattr(b"plain") == []


def test_the_names_of_a_lower_directory_are_read_once(
    tmp_path: Path, listings: list[bytes]
) -> None:
    layers = Layers(tmp_path, {"d": {}})
    with layers.union() as tree:
        for _ in range(2):
            assert errno_of(partial(tree.getxattr, b"d", security.DEFAULT)) == errno.ENODATA
            assert tree.listxattr(b"d") == []
        assert listings == [b"."]
        tree.setxattr(b"d", "user.a", b"1", 0)
        assert tree.listxattr(b"d") == ["user.a"]
        tree.fs.freeze(os.fsencode(tmp_path / "frozen"))
        assert tree.listxattr(b"d") == ["user.a"]


def test_a_layer_that_others_change_is_asked_each_time(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"above": ""}, {"lower": "", "d": {}})
    (layers.upper / "upper").touch()
    above, lower = layers.lowers
    with layers.union(lowers_change=True, timeout=0) as tree:
        assert tree.listxattr(b"d") == []
        os.setxattr(lower / "d", "user.a", b"1")
        assert tree.listxattr(b"d") == ["user.a"]
        for name in (b"lower", b"above", b"upper"):
            assert errno_of(partial(tree.getxattr, name, security.CAPABILITY)) == errno.ENODATA
        for place in (lower / "lower", above / "above", layers.upper / "upper"):
            os.setxattr(place, security.CAPABILITY, CAPABILITY)
        for name in (b"lower", b"above", b"upper"):
            assert tree.getxattr(name, security.CAPABILITY) == CAPABILITY
            assert tree.listxattr(name) == [security.CAPABILITY]


def test_a_frozen_copy_has_its_own_attributes(tmp_path: Path) -> None:
    """Not those of the lower file that it was copied from."""
    layers = Layers(tmp_path, {"file": "x"})
    with layers.union() as tree:
        assert tree.listxattr(b"file") == []
        tree.setxattr(b"file", security.CAPABILITY, CAPABILITY, 0)
        tree.fs.freeze(os.fsencode(tmp_path / "frozen"))
        assert tree.listxattr(b"file") == [security.CAPABILITY]
        assert tree.getxattr(b"file", security.CAPABILITY) == CAPABILITY
