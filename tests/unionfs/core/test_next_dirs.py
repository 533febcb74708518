"""Which directory comes next, for a program that walks a tree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import Content, state
from unionfs.core import next_dirs
from unionfs.core.next_dirs import next_dir

CONTENT: Content = {
    "top": {
        "a": {"f": "x", "deep": {"deeper": {}}},
        "b": {},
        "c": "a file",
        "d": {"f": "x"},
    },
    "beside": {},
}
ALL = [b"top", b"top/a", b"top/a/deep", b"top/a/deep/deeper", b"top/b", b"top/d"]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[CoreDriver]:
    with Layers(tmp_path, CONTENT).union() as tree:
        yield tree


def path_of(tree: CoreDriver, path: bytes, is_sorted: bool = True) -> bytes | None:
    """Return the path of what comes after `path`."""
    table = state(tree).table
    found = next_dir(state(tree), table.directory(tree.get(path).nodeid), is_sorted=is_sorted)
    if found is None:
        return None
    path, d = found.name, found
    while d.parent.parent is not d.parent:
        d = d.parent
        path = d.name + b"/" + path
    table.forget(found.nodeid, 1)
    return path


def test_first_what_is_beneath_then_what_is_beside_then_what_is_above(tree: CoreDriver) -> None:
    for path in ALL:
        tree.listdir(path)
    assert [path_of(tree, path) for path in ALL[:-1]] == ALL[1:]


def test_by_the_order_of_the_listings(tree: CoreDriver) -> None:
    for path in ALL:
        tree.listdir(path)
    listed = [entry.name for entry in tree.listdir(b"top") if entry.name not in (b".", b"..")]
    dirs = [b"top/" + name for name in listed if name != b"c"]
    assert path_of(tree, b"top", is_sorted=False) == dirs[0]
    for path, after in pairwise(dirs):
        wanted = b"top/a/deep" if path == b"top/a" else after
        assert path_of(tree, path, is_sorted=False) == wanted


def test_nobody_goes_on_where_nobody_has_looked(tree: CoreDriver) -> None:
    tree.listdir(b"top/b")
    assert path_of(tree, b"top/b") is None, "top is not listed"
    tree.listdir(b"top")
    assert path_of(tree, b"top/b") == b"top/d"
    tree.listdir(b"top/d")
    assert path_of(tree, b"top/d") is None, "the root is not listed"


def test_a_removed_and_a_new_directory(tree: CoreDriver) -> None:
    for path in ALL:
        tree.listdir(path)
    tree.rmdir(b"top/b")
    assert path_of(tree, b"top/a/deep/deeper") == b"top/d"
    tree.mkdir(b"top/bb", 0o755)
    tree.listdir(b"top")
    assert path_of(tree, b"top/a/deep/deeper") == b"top/bb"


def test_not_among_very_many_names(tree: CoreDriver) -> None:
    for path in ALL:
        tree.listdir(path)
    with mock.patch.object(next_dirs, "FAR", 3):
        assert path_of(tree, b"top") is None
    assert path_of(tree, b"top") == b"top/a"


def test_each_is_referred_to_once_more(tree: CoreDriver) -> None:
    tree.listdir(b"top")
    table = state(tree).table
    top = table.directory(tree.get(b"top").nodeid)
    found = next_dir(state(tree), top, is_sorted=True)
    assert found is not None and found.nlookup == 1
    table.forget(found.nodeid, 1)
    assert found.nodeid not in table.nodes
