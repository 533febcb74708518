"""Ids as stored and as shown: mapped, squashed, and those that have no place."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from tests.helpers.idmapped import idmapped
from tests.helpers.layers import Layers
from tests.helpers.mounts import require_root
from tests.helpers.unions import errno_of
from unionfs.core.config import IdRange
from unionfs.core.owners import OVERFLOW_ID
from unionfs.types import ROOT_NODEID, SetAttr

MAPS: dict[str, Any] = {
    "uid_map": (IdRange(100_000, 0, 1000), IdRange(5000, 1000, 1)),
    "gid_map": (IdRange(200_000, 0, 1000),),
}


def test_mapped_ids_are_shown(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"mapped": "", "single": "", "unmapped": ""})
    os.chown(layers.lowers[0] / "mapped", 100_005, 200_006)
    os.chown(layers.lowers[0] / "single", 5000, 200_000)
    os.chown(layers.lowers[0] / "unmapped", 7, 7)
    with layers.union(**MAPS) as tree:
        assert tree.lstat(b"mapped")[1:3] == (5, 6)
        assert tree.lstat(b"single")[1:3] == (1000, 0)
        assert tree.lstat(b"unmapped")[1:3] == (OVERFLOW_ID, OVERFLOW_ID)
        tree.chmod(b"mapped", 0o600)
        tree.chmod(b"unmapped", 0o600)
    assert (layers.upper / "mapped").stat().st_uid == 100_005
    assert (layers.upper / "unmapped").stat().st_uid == 7, "copied as it is"


def test_mapped_ids_are_stored(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    with layers.union(**MAPS) as tree:
        attr = tree.fs.mkdir(ROOT_NODEID, b"d", 0o755, 0, 5, 6)
        tree.lookups[attr.nodeid] += 1
        assert (attr.st_uid, attr.st_gid) == (5, 6)
        st = (layers.upper / "d").stat()
        assert (st.st_uid, st.st_gid) == (100_005, 200_006)
        tree.chown(b"d", 1000, 9)
        st = (layers.upper / "d").stat()
        assert (st.st_uid, st.st_gid) == (5000, 200_009)
        change = SetAttr(uid=4_000)
        assert errno_of(lambda: tree.fs.setattr(attr.nodeid, change, None)) == errno.EOVERFLOW
        make = tree.fs.mkdir
        assert errno_of(lambda: make(ROOT_NODEID, b"e", 0o755, 0, 0, 4_000)) == errno.EOVERFLOW
        assert tree.lstat(b"d")[1:3] == (1000, 9)
        assert [entry.name for entry in tree.listdir(b"")] == [b"d"]
    assert not (layers.upper / "e").exists()


def test_ids_without_a_place_are_stored_as_the_overflow_id(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": ""})
    os.chown(layers.lowers[0] / "file", 100_001, 200_001)
    with layers.union(overflow_ids=True, **MAPS) as tree:
        attr = tree.fs.mkdir(ROOT_NODEID, b"d", 0o755, 0, 4_000, 6)
        tree.lookups[attr.nodeid] += 1
        assert (attr.st_uid, attr.st_gid) == (OVERFLOW_ID, 6)
        st = (layers.upper / "d").stat()
        assert (st.st_uid, st.st_gid) == (OVERFLOW_ID, 200_006)
        tree.chown(b"file", 4_000, 4_000)
        st = (layers.upper / "file").stat()
        assert (st.st_uid, st.st_gid) == (OVERFLOW_ID, OVERFLOW_ID)
        tree.chown(b"d", 5, 6)
        assert (layers.upper / "d").stat().st_uid == 100_005, "an engine sets it right later"


def test_an_idmapped_lower_is_not_mapped_twice(tmp_path: Path) -> None:
    require_root()
    layers = Layers(tmp_path, {"d": {"file": "data"}}, {"below": ""})
    os.chown(layers.lowers[0] / "d/file", 5, 6)
    os.chown(layers.lowers[1] / "below", 7, 8)
    maps: dict[str, Any] = dict.fromkeys(("uid_map", "gid_map"), (IdRange(0, 100_000, 1000),))
    mapped = tmp_path / "mapped"
    mapped.mkdir()
    with idmapped(layers.lowers[0], mapped, 0, 100_000, 1000):
        lowers = (os.fsencode(mapped), os.fsencode(layers.lowers[1]))
        with layers.union(lowers=lowers, overflow_ids=True, **maps) as tree:
            assert tree.lstat(b"d/file")[1:3] == (100_005, 100_006)
            assert tree.lstat(b"d")[1:3] == (100_000, 100_000)
            assert tree.lstat(b"below")[1:3] == (100_007, 100_008), "not idmapped: mapped here"
            tree.chmod(b"d/file", 0o600)
            tree.chmod(b"below", 0o600)
            assert tree.lstat(b"d/file")[1:3] == (100_005, 100_006)
            assert tree.lstat(b"d")[1:3] == (100_000, 100_000)
    for name, owner in (("d/file", (5, 6)), ("d", (0, 0)), ("below", (7, 8))):
        st = (layers.upper / name).stat()
        assert (st.st_uid, st.st_gid) == owner, f"{name} is stored as the layers store it"


def test_squashed_ids(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": ""})
    os.chown(layers.lowers[0] / "file", 7, 8)
    with layers.union(squash_uid=70, squash_gid=80) as tree:
        assert tree.lstat(b"file")[1:3] == (70, 80)
        attr = tree.fs.mkdir(ROOT_NODEID, b"d", 0o755, 0, 5, 6)
        tree.lookups[attr.nodeid] += 1
        assert (attr.st_uid, attr.st_gid) == (70, 80)
    st = (layers.upper / "d").stat()
    assert (st.st_uid, st.st_gid) == (os.geteuid(), os.getegid())


def test_the_largest_ids(tmp_path: Path) -> None:
    largest = 2**32 - 2
    layers = Layers(tmp_path, {"file": ""})
    os.chown(layers.lowers[0] / "file", largest, largest)
    with layers.union() as tree:
        assert tree.lstat(b"file")[1:3] == (largest, largest)
        tree.chmod(b"file", 0o600)
        attr = tree.fs.mkdir(ROOT_NODEID, b"d", 0o755, 0, largest, largest)
        tree.lookups[attr.nodeid] += 1
        assert (attr.st_uid, attr.st_gid) == (largest, largest)
    assert layers.look()[b"file"].uid == largest
