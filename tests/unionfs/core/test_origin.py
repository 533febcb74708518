"""The origin mark: as overlayfs writes it, and the inode number read from it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.mounts import mounted
from tests.helpers.unions import state
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union
from unionfs.core.origin import Origin, decode_origin, encode_origin
from unionfs.types import ROOT_NODEID, SetAttr

UUID = bytes(range(16))


def mark(kind: int, fid: bytes, *, version: int = 0, magic: int = 0xFB, flags: int = 0) -> bytes:
    return struct.pack("=BBBBB16s", version, magic, 21 + len(fid), flags, kind, UUID) + fid


@pytest.mark.parametrize(
    ("kind", "fid", "ino"),
    [
        (1, struct.pack("=II", 1234, 99), 1234),  # ext4
        (2, struct.pack("=IIII", 1234, 99, 2, 0), 1234),
        (1, struct.pack("=III", 7, 5, 1), 5 | 1 << 32),  # tmpfs
        (0x4D, struct.pack("=QQII", 257, 5, 9, 0), 257),  # btrfs
        (0x81, struct.pack("=QI", 1 << 40, 3), 1 << 40),  # xfs
    ],
)
def test_marks_that_tell_a_number(kind: int, fid: bytes, ino: int) -> None:
    assert decode_origin(mark(kind, fid)) == Origin(UUID, ino)


FID = struct.pack("=II", 1234, 99)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0" * 21,
        mark(1, FID)[:-1],
        mark(1, FID, version=1),
        mark(1, FID, magic=0xFC),
        mark(1, FID, flags=1),
        mark(1, b"\1\2"),
        mark(200, FID),
    ],
)
def test_marks_that_tell_nothing(value: bytes) -> None:
    assert decode_origin(value) is None


def test_any_endian_is_ours_too() -> None:
    assert decode_origin(mark(1, FID, flags=2)) == Origin(UUID, 1234)


def test_what_is_encoded_is_decoded(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    with layers.union() as tree:
        layer = state(tree).lowers[0]
        value = encode_origin(layer, layer.root.fd(), b"file")
        if value is None:
            pytest.skip("the filesystem has no file handles")
        found = decode_origin(value)
        assert found == Origin(layer.uuid, (layers.lowers[0] / "file").stat().st_ino)
        tree.chmod(b"file", 0o600)
    assert os.getxattr(layers.upper / "file", "trusted.overlay.origin") == value


def test_numbers_stay_over_copy_up_and_remount(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"file": "x"}}, {"d": {"low": ""}})
    with layers.union() as tree:
        before = {path: tree.lstat(path).ino for path in (b"d", b"d/file", b"d/low")}
        tree.chmod(b"d", 0o700)
        tree.write(b"d/file", 0, b"y")
        tree.rename(b"d/low", b"d/moved", 0)
        before[b"d/moved"] = before.pop(b"d/low")
        assert {path: tree.lstat(path).ino for path in before} == before
    assert {path: seen.ino for path, seen in layers.look().items() if path} == before


def test_a_number_of_no_layer_is_not_believed(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {})
    (layers.upper / "file").touch()
    os.setxattr(layers.upper / "file", "trusted.overlay.origin", mark(1, FID))
    assert layers.look()[b"file"].ino == (layers.upper / "file").stat().st_ino


def test_a_layer_on_fuse_has_no_origins(tmp_path: Path) -> None:
    """A handle of FUSE is the nodeid, which the next mount of the layer gives to another file.

    So an index of hard links would lead to the wrong file.
    """
    layers = Layers(tmp_path, {"f": "x"})
    os.link(layers.lowers[0] / "f", layers.lowers[0] / "g")
    with mounted(layers.lowers, options=["transport=dev_fuse"]) as far:
        config = UnionConfig(
            lowers=(os.fsencode(far),),
            upper=os.fsencode(layers.upper),
            work=os.fsencode(layers.work),
        )
        fs = open_union(config)
        try:
            attr = fs.lookup(ROOT_NODEID, b"f")
            assert attr is not None
            fs.setattr(attr.nodeid, SetAttr(mode=0o600), None)
        finally:
            fs.close()
        assert os.listdir(layers.work / "index") == []
        assert "trusted.overlay.origin" not in os.listxattr(layers.upper / "f")
        fs = open_union(config)
        try:
            other = fs.lookup(ROOT_NODEID, b"g")
            assert other is not None
            assert other.st.st_mode & 0o777 == 0o644
        finally:
            fs.close()
