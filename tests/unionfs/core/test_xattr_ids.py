"""Ids in access control lists and file capabilities are mapped as owners are."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.idmapped import idmapped
from tests.helpers.layers import Layers
from tests.helpers.mounts import DEADLINE, mounted, require_fuse, require_root
from tests.helpers.security import (
    ACCESS,
    CAPABILITY,
    DEFAULT,
    GROUP,
    GROUP_OBJ,
    MASK,
    OTHER,
    USER,
    USER_ID,
    USER_OBJ,
    acl,
    capability,
    parse_acl,
    run_as,
)
from tests.helpers.unions import errno_of
from unionfs.core.config import IdRange
from unionfs.core.owners import OVERFLOW_ID
from unionfs.core.xattr_ids import map_acl, shown, stored

MAPS: dict[str, Any] = {
    "uid_map": (IdRange(100_000, 0, 1000),),
    "gid_map": (IdRange(200_000, 0, 1000),),
}


CAP_DAC_OVERRIDE = 1


def naming(user: int, group: int) -> bytes:
    return acl(
        (USER_OBJ, 6), (USER, 6, user), (GROUP_OBJ, 4), (GROUP, 4, group), (MASK, 6), (OTHER, 0)
    )


def named(value: bytes) -> tuple[int, int]:
    """Return the user and the group that a list of `naming` names."""
    ids = {tag: number for tag, _, number in parse_acl(value)}
    return ids[USER], ids[GROUP]


def test_only_ids_of_users_and_groups_are_mapped() -> None:
    value = naming(5, 6)
    mapped = map_acl(value, lambda uid: uid + 10, lambda gid: gid + 20)
    assert mapped == naming(15, 26)
    for malformed in (b"", b"\2\0\0", value[:-1], b"\2\0\0\0"):
        assert map_acl(malformed, lambda uid: 0, lambda gid: 0) == malformed


def test_mapped_ids_are_shown_and_stored(tmp_path: Path) -> None:
    require_root()
    layers = Layers(tmp_path, {"d": {"file": "x"}, "unmapped": ""})
    os.setxattr(layers.lowers[0] / "d/file", ACCESS, naming(100_005, 200_006))
    os.setxattr(layers.lowers[0] / "d", DEFAULT, naming(100_007, 200_008))
    os.setxattr(layers.lowers[0] / "unmapped", ACCESS, naming(7, 8))
    with layers.union(**MAPS) as tree:
        for _ in range(2):
            assert named(tree.getxattr(b"d/file", ACCESS)) == (5, 6)
            assert named(tree.getxattr(b"d", DEFAULT)) == (7, 8)
            assert named(tree.getxattr(b"unmapped", ACCESS)) == (OVERFLOW_ID, OVERFLOW_ID)
            tree.utimens(b"d/file", 1, 2)  # copies it and the directory up
            tree.utimens(b"unmapped", 1, 2)
        tree.create(b"d/new", 0o666)
        assert named(tree.getxattr(b"d/new", ACCESS)) == (7, 8), "inherited"
        tree.setxattr(b"d/new", ACCESS, naming(9, 10), 0)
        assert named(tree.getxattr(b"d/new", ACCESS)) == (9, 10)
        refused = naming(4000, 0)
        assert errno_of(lambda: tree.setxattr(b"d/new", ACCESS, refused, 0)) == errno.EOVERFLOW
    stored = {
        name: named(os.getxattr(layers.upper / name, kind))
        for name, kind in (("d/file", ACCESS), ("d", DEFAULT), ("d/new", ACCESS))
    }
    assert stored == {
        "d/file": (100_005, 200_006),
        "d": (100_007, 200_008),
        "d/new": (100_009, 200_010),
    }
    assert named(os.getxattr(layers.upper / "unmapped", ACCESS)) == (7, 8), "copied as it is"


def test_those_of_an_idmapped_lower_are_not_mapped_twice(tmp_path: Path) -> None:
    require_root()
    layers = Layers(tmp_path, {"d": {"file": "data"}})
    os.setxattr(layers.lowers[0] / "d/file", ACCESS, naming(5, 6))
    os.setxattr(layers.lowers[0] / "d", DEFAULT, naming(7, 8))
    maps: dict[str, Any] = dict.fromkeys(("uid_map", "gid_map"), (IdRange(0, 100_000, 1000),))
    mapped = tmp_path / "mapped"
    mapped.mkdir()
    with idmapped(layers.lowers[0], mapped, 0, 100_000, 1000):
        assert named(os.getxattr(mapped / "d/file", ACCESS)) == (100_005, 100_006)
        with layers.union(lowers=(os.fsencode(mapped),), overflow_ids=True, **maps) as tree:
            for _ in range(2):
                assert named(tree.getxattr(b"d/file", ACCESS)) == (100_005, 100_006)
                assert named(tree.getxattr(b"d", DEFAULT)) == (100_007, 100_008)
                tree.chmod(b"d/file", 0o660)
    assert named(os.getxattr(layers.upper / "d/file", ACCESS)) == (5, 6)
    assert named(os.getxattr(layers.upper / "d", DEFAULT)) == (7, 8)


@pytest.mark.parametrize("transport", ["dev_fuse", "pyfuse3"])
def test_the_kernel_judges_by_the_ids_that_are_shown(tmp_path: Path, transport: str) -> None:
    require_root()
    require_fuse()
    if transport == "pyfuse3":
        pytest.importorskip("pyfuse3")
    os.chmod(tmp_path, 0o755)
    layers = Layers(tmp_path, {"file": "secret"})
    file = layers.lowers[0] / "file"
    file.chmod(0o600)
    os.setxattr(file, ACCESS, naming(100_000 + USER_ID, 200_000))
    maps = f"uidmapping=100000:0:65536,gidmapping=200000:0:65536,transport={transport}"
    with mounted(layers.lowers, layers.upper, layers.work, [*maps.split(",")]) as root:
        assert run_as((root / "file").read_text) == "secret"
        with pytest.raises(PermissionError):
            run_as((root / "file").read_text, uid=USER_ID + 1)
        os.setxattr(root / "file", ACCESS, naming(USER_ID + 1, 0))
        assert run_as((root / "file").read_text, uid=USER_ID + 1) == "secret"
        with pytest.raises(PermissionError):
            run_as((root / "file").read_text)
    stored = os.getxattr(layers.upper / "file", ACCESS)
    assert named(stored) == (100_000 + USER_ID + 1, 200_000)


def capability_of(user: int) -> bytes:
    """Return a capability for the namespaces whose root is `user`."""
    plain = capability(1 << CAP_DAC_OVERRIDE)
    (magic,) = struct.unpack_from("<I", plain)
    return struct.pack("<I", magic + 0x01000000) + plain[4:] + struct.pack("<I", user)


def test_the_user_of_a_capability_is_mapped() -> None:
    def add(uid: int) -> int:
        return uid + 10

    def subtract(uid: int) -> int:
        return uid - 10

    plain = capability(1 << CAP_DAC_OVERRIDE)
    assert shown(CAPABILITY, plain, add, add) == capability_of(10)
    assert shown(CAPABILITY, capability_of(5), add, add) == capability_of(15)
    assert shown(CAPABILITY, plain, abs, abs) == plain
    assert stored(CAPABILITY, capability_of(10), subtract, subtract) == plain
    assert stored(CAPABILITY, capability_of(15), subtract, subtract) == capability_of(5)
    assert stored(CAPABILITY, plain, subtract, subtract) == plain, "as a program unpacks it"
    for malformed in (b"", b"\0", plain[:-1], b"\xff" * 20, b"\xff" * 24):
        assert shown(CAPABILITY, malformed, add, add) == malformed
        assert stored(CAPABILITY, malformed, add, add) == malformed


def test_capabilities_are_shown_stored_and_copied_with_their_user(tmp_path: Path) -> None:
    require_root()
    layers = Layers(tmp_path, {"d": {"file": "x"}})
    plain = capability(1 << CAP_DAC_OVERRIDE)
    os.setxattr(layers.lowers[0] / "d/file", CAPABILITY, plain)
    maps: dict[str, Any] = dict.fromkeys(("uid_map", "gid_map"), (IdRange(0, 100_000, 1000),))
    with layers.union(overflow_ids=True, **maps) as tree:
        for _ in range(2):
            assert tree.getxattr(b"d/file", CAPABILITY) == capability_of(100_000)
            tree.utimens(b"d/file", 1, 2)
        tree.create(b"new", 0o755)
        tree.setxattr(b"new", CAPABILITY, capability_of(100_000), 0)
        assert tree.getxattr(b"new", CAPABILITY) == capability_of(100_000)
    assert os.getxattr(layers.upper / "d/file", CAPABILITY) == plain
    assert os.getxattr(layers.upper / "new", CAPABILITY) == plain


def test_the_capability_of_an_idmapped_lower_is_copied_up(tmp_path: Path) -> None:
    require_root()
    layers = Layers(tmp_path, {"file": "x"})
    plain = capability(1 << CAP_DAC_OVERRIDE)
    os.setxattr(layers.lowers[0] / "file", CAPABILITY, plain)
    maps: dict[str, Any] = dict.fromkeys(("uid_map", "gid_map"), (IdRange(0, 100_000, 1000),))
    mapped = tmp_path / "mapped"
    mapped.mkdir()
    with idmapped(layers.lowers[0], mapped, 0, 100_000, 1000):
        assert os.getxattr(mapped / "file", CAPABILITY) == capability_of(100_000)
        with layers.union(lowers=(os.fsencode(mapped),), overflow_ids=True, **maps) as tree:
            for _ in range(2):
                assert tree.getxattr(b"file", CAPABILITY) == capability_of(100_000)
                tree.chmod(b"file", 0o755)
    assert os.getxattr(layers.upper / "file", CAPABILITY) == plain


@pytest.mark.parametrize("transport", ["dev_fuse", "pyfuse3"])
def test_a_capability_of_a_mapped_layer_is_none_outside(tmp_path: Path, transport: str) -> None:
    """Its root is no root here, so neither do its programs have root's rights here."""
    require_root()
    require_fuse()
    if transport == "pyfuse3":
        pytest.importorskip("pyfuse3")
    os.chmod(tmp_path, 0o755)
    layers = Layers(tmp_path)
    program = layers.lowers[0] / "cat"
    shutil.copy(shutil.which("cat") or "", program)
    os.setxattr(program, CAPABILITY, capability(1 << CAP_DAC_OVERRIDE))
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    for maps, readable in (("uidmapping=0:0:65536", True), ("uidmapping=0:100000:65536", False)):
        options = [maps, maps.replace("uid", "gid"), f"transport={transport}"]
        with mounted(layers.lowers, options=options) as root:
            done = subprocess.run(
                [root / "cat", secret], user=USER_ID, group=USER_ID, extra_groups=[],
                capture_output=True, timeout=DEADLINE, check=False,
            )  # fmt: skip
        assert (done.stdout == b"secret") == readable
