"""What a staged copy is, and what it needs not be given."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import errno_of, nodeid, state
from unionfs.core import staging
from unionfs.core.staging import Staged, plan_copy, secure_data, stage_copy


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
