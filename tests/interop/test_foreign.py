"""Layers that other union filesystems wrote, in forms kernel overlayfs does not read."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conformance.tree import directory, file, hard_link
from tests.helpers.layers import HandmadeLayers
from tests.helpers.mounts import mounted
from tests.interop.views import contents


def read(layers: HandmadeLayers) -> dict[str, str | None]:
    """Return what the layers show, writable and, the upper being a lower then, read-only."""
    with layers.union() as root:
        found = contents(root)
    with mounted([layers.upper, *layers.stack]) as root:
        assert contents(root) == found
    return found


def test_aufs_whiteouts(layers: HandmadeLayers) -> None:
    layers.layer(file(".wh.gone"), file("d/.wh.x"), file("d/new", b"n"), file(".wh.tree"))
    layers.layer(
        file("gone", b"g"), file("d/x", b"x"), file("d/y", b"y"), file("tree/a"), file("k", b"k")
    )
    assert read(layers) == {"d": None, "d/new": "n", "d/y": "y", "k": "k"}


def test_aufs_opaque_directories(layers: HandmadeLayers) -> None:
    layers.layer(file("d/.wh..wh..opq"), file("d/new", b"n"))
    layers.layer(file("d/old", b"o"), file("d/sub/older", b"o"))
    assert read(layers) == {"d": None, "d/new": "n"}


def test_aufs_own_files_are_no_entries(layers: HandmadeLayers) -> None:
    layers.layer(
        file(".wh..wh.aufs", mode=0o444),
        hard_link(".wh.gone", ".wh..wh.aufs"),
        directory(".wh..wh.plnk"),
        file(".wh..wh.plnk/12.12"),
        directory(".wh..wh.orph"),
    )
    layers.layer(file("gone", b"g"), file("stays", b"s"))
    assert read(layers) == {"stays": "s"}


def test_an_aufs_whiteout_beside_the_name_it_hides(layers: HandmadeLayers) -> None:
    layers.layer(file("f", b"new"), file(".wh.f"), file("d/new", b"n"), file(".wh.d"))
    layers.layer(file("f", b"old"), file("d/old", b"o"))
    found = read(layers)
    assert found["f"] == "new"
    assert found["d/new"] == "n"


def test_an_aufs_whiteout_can_be_written_over(layers: HandmadeLayers) -> None:
    layers.layer(file(".wh.f"), file(".wh.d"))
    layers.layer(file("f", b"old"), file("d/old", b"o"))
    with layers.union() as root:
        (root / "f").write_text("new")
        (root / "d").mkdir()
    assert read(layers) == {"d": None, "f": "new"}


def test_an_upper_of_aufs_form_is_read_and_changed(layers: HandmadeLayers) -> None:
    layers.layer(file("f", b"old"), file("g", b"g"))
    (layers.upper / ".wh.f").touch()
    assert read(layers) == {"g": "g"}
    with layers.union() as root:
        (root / "f").write_text("new")
        (root / "g").unlink()
    assert read(layers) == {"f": "new"}


def test_fuse_overlayfs_opaque_directories(layers: HandmadeLayers) -> None:
    layers.layer(
        directory("one", xattrs={"user.fuseoverlayfs.opaque": b"y"}),
        file("one/new", b"n"),
        file("one/.wh..wh..opq", mode=0o700),
        directory("two", xattrs={"user.fuseoverlayfs.opaque": b"y"}),
    )
    layers.layer(file("one/old", b"o"), file("two/old", b"o"))
    assert read(layers) == {"one": None, "one/new": "n", "two": None}


def test_fuse_overlayfs_own_attributes_are_hidden(layers: HandmadeLayers) -> None:
    layers.layer(file("f", b"f", xattrs={"user.fuseoverlayfs.origin": b"f\0", "user.mine": b"m"}))
    with layers.union() as root:
        assert _listed(root / "f") == ["user.mine"]
        (root / "f").chmod(0o600)
        assert _listed(root / "f") == ["user.mine"]


def _listed(path: Path) -> list[str]:
    return os.listxattr(path)
