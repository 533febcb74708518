"""Layers that were changed from outside, and read again because somebody said so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import core, nodeid
from unionfs.types import ROOT_NODEID


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path, {"one": {"file": "1", "deep": {"er": "x"}}, "two": {"file": "2"}})


@pytest.fixture
def tree(layers: Layers) -> Iterator[CoreDriver]:
    """A union of which all directories have been looked into."""
    with layers.union(lowers_change=True) as tree:
        for path in (b"", b"one", b"one/deep", b"two"):
            tree.listdir(path)
        yield tree


def names(tree: CoreDriver, path: bytes) -> set[bytes]:
    return {entry.name for entry in tree.listdir(path)}


def test_what_was_read_is_remembered_until_it_is_read_again(
    layers: Layers, tree: CoreDriver
) -> None:
    for folder in ("one", "one/deep", "two"):
        (layers.lowers[0] / folder / "added").write_text("here")
    assert names(tree, b"one") == {b"file", b"deep"}
    core(tree).reread(None)
    assert names(tree, b"one") == {b"file", b"deep", b"added"}
    assert names(tree, b"one/deep") == {b"er", b"added"}
    assert tree.read(b"two/added") == b"here"


def test_a_path_stands_for_the_directories_it_leads_through(
    layers: Layers, tree: CoreDriver
) -> None:
    for folder in ("", "one", "one/deep", "two"):
        (layers.lowers[0] / folder / "added").write_text("here")
    core(tree).reread(b"/one/deep")
    assert names(tree, b"") == {b"one", b"two", b"added"}
    assert names(tree, b"one") == {b"file", b"deep", b"added"}
    assert names(tree, b"one/deep") == {b"er", b"added"}
    assert names(tree, b"two") == {b"file"}


def test_what_the_kernel_may_know_is_told(tree: CoreDriver) -> None:
    one, deep = nodeid(tree, b"one"), nodeid(tree, b"one/deep")
    told = core(tree).reread(b"one/deep/no/such")
    assert told == [
        (ROOT_NODEID, ROOT_NODEID, b""),
        (one, ROOT_NODEID, b"one"),
        (deep, one, b"deep"),
    ]
    assert set(told) < set(core(tree).reread(None))
    assert core(tree).reread(b"") == [(ROOT_NODEID, ROOT_NODEID, b"")]


def test_an_inode_stays_until_its_name_leads_elsewhere(layers: Layers, tree: CoreDriver) -> None:
    file, other = nodeid(tree, b"one/file"), nodeid(tree, b"two/file")
    handle = tree.open(b"one/file", os.O_RDONLY, 0)
    assert tree.pread(handle, 10, 0) == b"1"
    replacement = layers.base / "replacement"
    replacement.write_text("another")
    replacement.rename(layers.lowers[0] / "one/file")
    core(tree).reread(None)
    assert nodeid(tree, b"two/file") == other
    assert nodeid(tree, b"one/file") != file
    assert tree.read(b"one/file") == b"another"
    assert tree.pread(handle, 10, 0) == b"1"
    tree.close(handle)


def test_an_upper_changed_from_outside_is_read_again(layers: Layers, tree: CoreDriver) -> None:
    tree.unlink(b"two/file")
    os.unlink(layers.upper / "two/file")  # its whiteout
    (layers.upper / "two/new").write_text("new")
    core(tree).reread(b"two")
    assert names(tree, b"two") == {b"file", b"new"}
    assert tree.read(b"two/file") == b"2"


def test_a_removed_directory_stays_what_it_is(layers: Layers, tree: CoreDriver) -> None:
    tree.mkdir(b"gone", 0o755)
    number = nodeid(tree, b"gone")
    tree.rmdir(b"gone")
    core(tree).reread(None)
    assert core(tree).getattr(number).st_nlink == 0
    assert list(core(tree).listdir(number, 0)) == []
