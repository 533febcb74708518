"""Lowers are never changed, not even in what reading changes: their access times."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.trees import walk
from tests.helpers.unions import OLD_NS, errno_of, nodeid
from unionfs.core.config import WhiteoutForm
from unionfs.types import SetAttr


def everything(layer: Path) -> dict[bytes, tuple[int, ...]]:
    """Return all of stat(2) of all there is but symbolic links: readlink(2) moves their atime.

    Looking moves the access times of directories; so they are made old first.
    """
    paths = [path for path in walk(os.fsencode(layer)) if not os.path.islink(path)]
    for path in paths:
        os.utime(path, ns=(OLD_NS, os.lstat(path).st_mtime_ns))
    return seen_again(paths)


def seen_again(paths: Iterable[bytes]) -> dict[bytes, tuple[int, ...]]:
    found: dict[bytes, tuple[int, ...]] = {}
    for path in paths:
        st = os.lstat(path)
        found[path] = (*st[:7], st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)
    return found


def use(tree: CoreDriver) -> None:
    """Do a bit of everything to files of the lowers."""
    tree.read(b"d/read")
    tree.listdir(b"d")
    tree.listdir(b"d/sub")
    tree.readlink(b"d/link")
    tree.chmod(b"d/chmod", 0o600)
    tree.write(b"d/write", 0, b"new")
    tree.truncate(b"d/truncate", 1)
    tree.setxattr(b"d/xattr", "user.new", b"1", 0)
    tree.link(b"d/linked", b"d/linked2")
    tree.unlink(b"d/unlink")
    tree.rename(b"d/rename", b"renamed", 0)
    tree.rename(b"d/sub", b"sub", 0)
    tree.chmod(b"sub/deep", 0o700)
    tree.unlink(b"sub/deep/file")
    tree.rmdir(b"sub/deep")
    tree.utimens(b"d", 1, 2)


@pytest.mark.parametrize(
    "settings",
    [{}, {"metacopy": True}, {"whiteout": WhiteoutForm.XATTR}, {"userxattr": True}],
    ids=["default", "metacopy", "xattr", "userxattr"],
)
def test_lowers_are_as_they_were(tmp_path: Path, settings: dict[str, Any]) -> None:
    kinds = ("read", "chmod", "write", "truncate", "xattr", "linked", "unlink", "rename")
    layers = Layers(
        tmp_path,
        {"d": {**{kind: kind for kind in kinds}, "sub": {"deep": {"file": "x"}}}},
        {"d": {"other": "x", "sub": {"deep": {}}}},
    )
    (layers.lowers[0] / "d/link").symlink_to("target")
    (layers.lowers[0] / "d/linked3").hardlink_to(layers.lowers[0] / "d/linked")
    before = [everything(lower) for lower in layers.lowers]
    with layers.union(lowers_change=True, **settings) as tree:
        use(tree)
    for was in before:
        assert seen_again(was) == was


def test_a_removed_lower_directory_is_not_changed(tmp_path: Path) -> None:
    """Who stands in it may still try; with an upper or without."""
    layers = Layers(tmp_path, {"d": {}, "e": {}})
    before = everything(layers.lowers[0])
    with layers.union(lowers_change=True) as tree:
        held = nodeid(tree, b"d")
        tree.rmdir(b"d")
        errno_of(lambda: tree.fs.setattr(held, SetAttr(mode=0o700), None))
        errno_of(lambda: tree.fs.setxattr(held, b"user.x", b"1", 0))
    assert seen_again(before) == before
