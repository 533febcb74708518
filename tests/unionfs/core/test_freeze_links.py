"""Hard links before a freeze: every name of them is found, and has its place in the upper."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.faults import system_calls
from tests.helpers.freezing import Frozen, check_reopened
from tests.helpers.layers import Layers
from tests.helpers.trees import assert_same, snapshot
from tests.helpers.unions import state
from unionfs.core.freeze_links import BATCH, adopt_names, settle_index
from unionfs.core.lookup import lookup


def test_all_names_of_a_link_open_for_writing_move(union: Frozen) -> None:
    tree = union.tree
    tree.mkdir(b"new", 0o755)
    tree.create(b"new/one", 0o644)
    for name in (b"etc/two", b"three"):
        tree.link(b"new/one", name)
    tree.forget_all()  # from now on the others are not known
    handle = tree.open(b"etc/two", os.O_WRONLY, 0)
    frozen = union.freeze()
    tree.pwrite(handle, b"later", 0)
    tree.close(handle)
    names = ("new/one", "etc/two", "three")
    assert {os.stat(frozen / name).st_size for name in names} == {0}
    assert len({os.stat(frozen / name).st_ino for name in names}) == 1
    assert {tree.read(os.fsencode(name)) for name in names} == {b"later"}
    check_reopened(union)


def test_an_open_link_whose_known_name_is_gone_moves_too(union: Frozen) -> None:
    tree = union.tree
    tree.create(b"one", 0o644)
    tree.link(b"one", b"etc/two")
    tree.forget_all()
    handle = tree.open(b"one", os.O_RDWR, 0)
    tree.unlink(b"one")
    frozen = union.freeze()
    tree.pwrite(handle, b"later", 0)
    assert tree.read(b"etc/two") == b"later"
    assert (frozen / "etc/two").read_bytes() == b""
    tree.close(handle)
    check_reopened(union)


def test_names_of_a_lower_link_that_only_the_index_knows_show_the_change(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": {"1": "old"}, "b": {}, "c": {"e": {}}})
    for name in ("b/2", "c/e/3"):
        os.link(layers.lowers[0] / "a/1", layers.lowers[0] / name)
    with layers.union(lowers_change=True, strict=False) as tree:
        union = Frozen(layers, tree)
        tree.write(b"a/1", 0, b"new")
        tree.rename(b"c", b"moved", 0)
        before = snapshot(tree)
        frozen = union.freeze()
        assert_same(before, snapshot(tree), "a freeze")
        assert os.listdir(layers.work / "index") == []
        names = ("a/1", "b/2", "moved/e/3")
        assert [(frozen / name).read_bytes() for name in names] == [b"new"] * 3
        assert {os.stat(frozen / name).st_nlink for name in names} == {3}
        tree.write(b"b/2", 0, b"NEWER")
        assert {tree.read(os.fsencode(name)) for name in names} == {b"NEWER"}
        union.freeze()
        assert {tree.read(os.fsencode(name)) for name in names} == {b"NEWER"}
        check_reopened(union)


def test_a_name_that_is_gone_needs_no_place(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": {"1": "old"}, "b": {}})
    os.link(layers.lowers[0] / "a/1", layers.lowers[0] / "b/2")
    with layers.union(lowers_change=True, strict=False) as tree:
        union = Frozen(layers, tree)
        tree.write(b"a/1", 0, b"new")
        tree.unlink(b"b/2")
        before = snapshot(tree)
        frozen = union.freeze()
        assert_same(before, snapshot(tree), "a freeze")
        assert (frozen / "a/1").stat().st_nlink == 1
        assert os.listdir(layers.work / "index") == []
        check_reopened(union)


def test_more_links_than_one_pause_takes(tmp_path: Path) -> None:
    count = BATCH + 6
    names = {f"{number}": "x" for number in range(count)}
    layers = Layers(tmp_path, {"a": names, "b": {}})
    for name in names:
        os.link(layers.lowers[0] / "a" / name, layers.lowers[0] / "b" / name)
    with layers.union(lowers_change=True, strict=False) as tree:
        union = Frozen(layers, tree)
        for name in names:
            tree.chmod(b"a/" + name.encode(), 0o600)
        assert len(os.listdir(layers.work / "index")) == count
        frozen = union.freeze()
        assert os.listdir(layers.work / "index") == []
        assert {(frozen / "b" / name).stat().st_nlink for name in names} == {2}
        check_reopened(union)


def test_looking_for_names_leaves_no_inode_behind(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": {"1": "old"}, "b": {"c": {"d": {"e": "x"}}}})
    os.link(layers.lowers[0] / "a/1", layers.lowers[0] / "b/c/d/2")
    with layers.union(lowers_change=True, strict=False) as tree:
        shared = state(tree)
        tree.write(b"a/1", 0, b"new")
        tree.link(b"a/1", b"b/3")
        tree.forget_all()
        settle_index(shared)
        assert (layers.upper / "b/c/d/2").stat().st_nlink == 3
        assert len(shared.table.nodes) == 1, "the root alone is known"
        handle = tree.open(b"a/1", os.O_RDWR, 0)
        node = tree.handles[handle].nodeid
        known = len(shared.table.nodes)
        adopt_names(shared, [shared.table.file(node)])
        assert len(shared.table.nodes) > known, "the directories of its names are held by them"
        tree.close(handle)
        tree.forget_all()
        assert len(shared.table.nodes) == 1


def test_a_directory_that_cannot_be_looked_into_is_passed_over(tmp_path: Path) -> None:
    """A lookup in it fails with the reason; a freeze does not fail because of it."""
    layers = Layers(tmp_path, {"a": {"1": "old"}, "b": {}, "bad": {}})
    os.link(layers.lowers[0] / "a/1", layers.lowers[0] / "b/2")
    os.setxattr(layers.lowers[0] / "bad", "trusted.overlay.redirect", b"../..")
    with layers.union(lowers_change=True, strict=False) as tree:
        tree.write(b"a/1", 0, b"new")
        settle_index(state(tree))
        assert (layers.upper / "b/2").read_bytes() == b"new"


def _at_the_first(
    wanted: str, change: Callable[[], object]
) -> Callable[[str, tuple[Any, ...]], None]:
    """Return a hook that does `change` before the first system call `wanted`."""
    planned = [change]

    def hook(name: str, args: tuple[Any, ...]) -> None:
        if name == wanted and planned:
            planned.pop()()

    return hook


def _replace(tree: CoreDriver) -> None:
    tree.rename(b"a/1", b"c/moved", 0)
    tree.create(b"a/1", 0o644)


@pytest.mark.parametrize("change", [lambda tree: tree.unlink(b"a/1"), _replace])
def test_the_name_by_which_a_file_is_reached_may_go_while_another_is_linked(
    tmp_path: Path, change: Callable[[CoreDriver], object]
) -> None:
    layers = Layers(tmp_path, {"a": {"1": "old"}, "b": {}, "c": {}})
    os.link(layers.lowers[0] / "a/1", layers.lowers[0] / "b/2")
    with layers.union(lowers_change=True, strict=False) as tree:
        union = Frozen(layers, tree)
        tree.write(b"a/1", 0, b"new")
        with system_calls(_at_the_first("link", lambda: change(tree))):
            frozen = union.freeze()
        assert (frozen / "b/2").read_bytes() == b"new"
        assert os.listdir(layers.work / "index") == []
        check_reopened(union)


def test_a_directory_may_go_while_the_links_in_it_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(tmp_path, {"a": {"1": "old"}, "b": {}})
    os.link(layers.lowers[0] / "a/1", layers.lowers[0] / "b/2")
    with layers.union(lowers_change=True, strict=False, timeout=0.0) as tree:
        union = Frozen(layers, tree)
        tree.write(b"a/1", 0, b"new")
        planned = ["removal"]

        def after_removal(*args: Any) -> Any:
            if planned and args[2] == b"2":
                planned.clear()
                tree.unlink(b"b/2")
                tree.rmdir(b"b")
            return lookup(*args)

        monkeypatch.setattr("unionfs.core.freeze_links.lookup", after_removal)
        frozen = union.freeze()
        assert not planned
        assert (frozen / "a/1").stat().st_nlink == 1
        assert os.listdir(layers.work / "index") == []
