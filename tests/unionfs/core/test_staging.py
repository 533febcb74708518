"""What a staged copy is, and what it needs not be given."""

from __future__ import annotations

import errno
import os
import shutil
import struct
from pathlib import Path

import pytest

from tests.helpers.calls import FS_APPEND_FL, get_flags, set_flags
from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.mounts import require_root
from tests.helpers.power import Disk
from tests.helpers.small_disks import small_disk
from tests.helpers.unions import core, errno_of, nodeid, state
from unionfs.core import file as file_module
from unionfs.core import setattr as setattr_module
from unionfs.core import setup, staging
from unionfs.core.staging import Staged, plan_copy, secure_data, stage_copy
from unionfs.syscalls.statfs import BTRFS, EXT4, XFS

LARGE = 1 << 20

# linux/posix_acl_xattr.h: owner, user 5, group, mask, others, each with rw or r.
_ENTRIES = ((1, 6, -1), (2, 6, 5), (4, 4, -1), (0x10, 6, -1), (0x20, 4, -1))
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in _ENTRIES)


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    layers = Layers(tmp_path, {"own": "of root", "other": "of somebody"})
    os.chown(layers.lowers[0] / "other", 1000, 1001)
    (layers.lowers[0] / "link").symlink_to("own")
    os.lchown(layers.lowers[0] / "link", 3, 4)
    return layers


def stage(tree: CoreDriver, name: bytes) -> Staged:
    node = state(tree).table.file(nodeid(tree, name))
    copy = plan_copy(state(tree), state(tree).require_upper(), node, None, metadata_only=False)
    staged = stage_copy(copy)
    secure_data(staged)
    return staged


@pytest.mark.parametrize("name", [b"own", b"other", b"link"])
def test_a_staged_copy_is_whole(layers: Layers, name: bytes) -> None:
    with layers.union() as tree:
        staged = stage(tree, name)
        path = layers.work / "work" / os.fsdecode(staged.copy.name)
        made, source = path.lstat(), (layers.lowers[0] / os.fsdecode(name)).lstat()
        for field in ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_atime_ns"):
            assert getattr(made, field) == getattr(source, field)
        assert staged.ino == made.st_ino
        assert (staged.fd is None) == (name == b"link")
        del staged
        path.unlink()


@pytest.mark.parametrize("acl", [False, True])
@pytest.mark.parametrize("umask", [0, 0o077])
@pytest.mark.parametrize("mode", [0o644, 0o777, 0o600, 0o444, 0o000, 0o4755, 0o2644, 0o1666])
@pytest.mark.parametrize("name", [b"own", b"other"])
def test_a_copy_has_the_mode_of_the_lower(
    layers: Layers, name: bytes, mode: int, umask: int, acl: bool
) -> None:
    source = layers.lowers[0] / os.fsdecode(name)
    if acl:
        os.setxattr(source, "system.posix_acl_access", ACL)
    source.chmod(mode)
    before = os.umask(umask)
    try:
        with layers.union() as tree:
            staged = stage(tree, name)
            path = layers.work / "work" / os.fsdecode(staged.copy.name)
            found, wanted = path.stat(), source.stat()
            assert (found.st_mode, found.st_uid) == (wanted.st_mode, wanted.st_uid)
            assert ("system.posix_acl_access" in os.listxattr(path)) == acl
            del staged
            path.unlink()
    finally:
        os.umask(before)


def test_a_plain_copy_is_made_with_its_owner_and_mode(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needless(*_: object) -> None:
        raise AssertionError("the file has that already")

    before = os.umask(0)
    try:
        with layers.union() as tree, monkeypatch.context() as patched:
            patched.setattr(os, "chmod", needless)
            patched.setattr(os, "chown", needless)
            staged = stage(tree, b"own")
            (layers.work / "work" / os.fsdecode(staged.copy.name)).unlink()
            del staged
    finally:
        os.umask(before)


def test_a_change_goes_to_the_copy_that_it_made(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a second search by name, which would have to hold renames off."""

    def needless(*_: object) -> None:
        raise AssertionError("the copy is open")

    with layers.union() as tree:
        monkeypatch.setattr(setattr_module, "AtRest", needless)
        tree.chown(b"own", 7, 8)
        monkeypatch.undo()
        assert tree.read(b"own") == b"of root"
    found = (layers.upper / "own").stat()
    assert (found.st_uid, found.st_gid) == (7, 8)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_an_open_for_writing_uses_the_copy_that_it_made(
    layers: Layers, monkeypatch: pytest.MonkeyPatch, flags: int
) -> None:
    def needless(*_: object, **__: object) -> None:
        raise AssertionError("the copy is open")

    with layers.union() as tree:
        monkeypatch.setattr(file_module, "open_node", needless)
        handle = tree.open(b"own", flags, 0)
        monkeypatch.undo()
        tree.pwrite(handle, b"OF", 0)
        tree.close(handle)
        wanted = b"of rootOF" if flags & os.O_APPEND else b"OF root"
        assert tree.read(b"own") == wanted
    assert (layers.upper / "own").read_bytes() == wanted


def test_an_append_only_file_is_opened_as_one(layers: Layers) -> None:
    """The copy was open for writing anywhere before it got the mark."""
    require_root()
    lower = layers.lowers[0] / "own"
    set_flags(lower, get_flags(lower) | FS_APPEND_FL)
    try:
        with layers.union() as tree:
            fh = tree.fs.open(nodeid(tree, b"own"), os.O_WRONLY | os.O_APPEND)
            assert core(tree).only_appends(fh)
            tree.fs.release(fh)
    finally:
        for marked in (lower, layers.upper / "own"):
            set_flags(marked, get_flags(marked) & ~FS_APPEND_FL)


@pytest.mark.parametrize("name", [b"own", b"link"])
def test_a_copy_that_fails_leaves_nothing(
    layers: Layers, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(staging, "copy_metadata", fail)
    with layers.union() as tree:
        before = os.listdir(layers.work / "work")
        assert errno_of(lambda: stage(tree, name)) == errno.ENOSPC
        assert os.listdir(layers.work / "work") == before


@pytest.mark.parametrize("kind", [XFS, BTRFS])
def test_a_shared_copy_needs_no_sync_where_the_log_keeps_the_order(
    layers: Layers, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    """btrfs does not: an fsync of the directory writes the name without the data."""

    def share(source: int, target: int) -> bool:
        os.write(target, os.read(source, 100))
        return True

    synced: list[int] = []
    monkeypatch.setattr(staging, "try_reflink", share)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(int(fd)))
    with layers.union() as tree:
        upper = state(tree).require_upper().upper
        upper.fs_type, upper.ordered = kind, False
        tree.chmod(b"own", 0o600)
        assert bool(synced) == (kind != XFS)
        state(tree).lowers[0].reflinks = False
        tree.chmod(b"other", 0o600)
        assert len(synced) == (1 if kind == XFS else 2)


@pytest.mark.parametrize("volatile", [False, True])
def test_the_disk_writes_while_the_rest_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volatile: bool
) -> None:
    begun: list[tuple[int, int, int]] = []

    def note(fd: int, offset: int = 0, length: int = 0) -> None:
        begun.append((offset, length, os.fstat(fd).st_size))

    layers = Layers(tmp_path, {"large": "text" * (LARGE // 2)})
    monkeypatch.setattr(staging, "try_reflink", lambda _source, _target: False)
    monkeypatch.setattr(staging, "begin_write_back", note)
    monkeypatch.setattr(staging, "fallocate", lambda *_: None)
    with layers.union(volatile=volatile) as tree:
        state(tree).require_upper().upper.ordered = False
        tree.write(b"large", 0, b"x")
    # In parts, each when the file ends with it.
    wanted = [(0, LARGE, LARGE), (LARGE, LARGE, 2 * LARGE)]
    assert begun == ([] if volatile else wanted)
    assert (layers.upper / "large").stat().st_size == 2 * LARGE


@pytest.mark.parametrize("kind", [EXT4, XFS])
@pytest.mark.parametrize("holes", [False, True])
def test_ext4_allocates_a_large_file_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int, holes: bool
) -> None:
    """Others do that as well later, and btrfs could not compress it."""
    layers = Layers(tmp_path, {"large": "text" * (LARGE // 4), "small": "text"})
    if holes:
        os.truncate(layers.lowers[0] / "large", 4 * LARGE)
    wanted = (layers.lowers[0] / "large").read_bytes()
    allocated: list[tuple[int, int, int]] = []

    def unknown(_fd: int, mode: int, offset: int, length: int) -> None:
        allocated.append((mode, offset, length))
        raise OSError(errno.EOPNOTSUPP, "a file without extents")

    monkeypatch.setattr(staging, "try_reflink", lambda _source, _target: False)
    monkeypatch.setattr(staging, "fallocate", unknown)
    with layers.union() as tree:
        state(tree).require_upper().upper.fs_type = kind
        tree.append(b"large", b"more")
        tree.append(b"small", b"more")
    assert allocated == ([(0, 0, LARGE)] if kind == EXT4 and not holes else [])
    assert (layers.upper / "large").read_bytes() == wanted + b"more"


def test_a_copy_that_a_full_ext4_has_no_room_for_ends_before_it_begins(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    (layers.lowers[0] / "own").write_bytes(bytes(LARGE))
    monkeypatch.setattr(staging, "try_reflink", lambda _source, _target: False)
    monkeypatch.setattr(staging, "fallocate", full)
    with layers.union() as tree:
        state(tree).require_upper().upper.fs_type = EXT4
        before = os.listdir(layers.work / "work")
        assert errno_of(lambda: stage(tree, b"own")) == errno.ENOSPC
        assert os.listdir(layers.work / "work") == before


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_large_file_shares_its_data_where_the_filesystem_can(tmp_path: Path, kind: str) -> None:
    require_root()
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not here")
    size = 64 << 20
    with small_disk(tmp_path, kind, 320 << 20) as top:
        layers = Layers(top / "layers", {"large": ""})
        (layers.lowers[0] / "large").write_bytes(os.urandom(LARGE) * (size // LARGE))
        os.sync()
        with layers.union() as tree:
            before = os.statvfs(top)
            tree.write(b"large", 0, b"x")
            after = os.statvfs(top)
        assert (layers.upper / "large").stat().st_size == size
        assert (before.f_bfree - after.f_bfree) * before.f_frsize < size // 4


def test_on_xfs_a_copy_is_whole_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_root()
    content = {f"f{number:02}": f"content of {number}" * 500 for number in range(30)}
    disk = Disk(tmp_path, "xfs")
    with disk.mounted() as top:
        layers = Layers(top / "layers", content)
        os.sync()
        monkeypatch.setattr(setup, "syncfs", lambda _fd: None)
        with layers.union() as tree:
            for name in content:
                tree.chmod(name.encode(), 0o600)
                if name == "f20":  # writes the log so far, and the data of no file
                    fd = os.open(layers.upper, os.O_RDONLY)
                    os.fsync(fd)
                    os.close(fd)
        disk.cut()
    with disk.mounted():
        copies = [path for path in layers.upper.iterdir() if path.is_file()]
        assert len(copies) > 20
        for path in copies:
            assert path.read_text() == content[path.name]
            assert path.stat().st_mode & 0o777 in (0o600, 0o644)


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw, version 2


def test_a_capability_is_known_before_and_after_a_copy_up(layers: Layers) -> None:
    lower = layers.lowers[0]
    os.setxattr(lower / "own", "security.capability", CAPABILITY)
    with layers.union() as tree:
        tree.chmod(b"own", 0o755)
        assert tree.getxattr(b"own", "security.capability") == CAPABILITY
        tree.chmod(b"other", 0o755)
        assert errno_of(lambda: tree.getxattr(b"other", "security.capability")) == errno.ENODATA
        tree.setxattr(b"other", "security.capability", CAPABILITY, 0)
        assert tree.getxattr(b"other", "security.capability") == CAPABILITY
        tree.chown(b"other", 5, 6)  # takes it away
        assert errno_of(lambda: tree.getxattr(b"other", "security.capability")) == errno.ENODATA


def test_attributes_that_are_known_are_not_asked_for(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.setxattr(layers.lowers[0] / "own", "user.kept", b"1")
    with layers.union() as tree:
        assert tree.listxattr(b"own") == ["user.kept"]
        monkeypatch.setattr(staging, "xattr", None)
        tree.chmod(b"own", 0o600)
        monkeypatch.undo()
        assert tree.getxattr(b"own", "user.kept") == b"1"
