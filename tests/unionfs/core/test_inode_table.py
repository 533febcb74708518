"""The table of inodes: references counted, one inode for one file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.mounts import DEADLINE, wait_until
from tests.helpers.unions import nodeid, state
from unionfs.core import inode_table
from unionfs.core.inode import Dir, File, Node
from unionfs.core.inode_table import InodeTable
from unionfs.core.layer import Fd, RealDir
from unionfs.types import ROOT_NODEID, NodeId


def test_a_nodeid_given_back_is_stale(tmp_path: Path) -> None:
    with Layers(tmp_path, {"file": "x"}).union() as tree:
        held = nodeid(tree, b"file")
        tree.forget_all()
        for call in (tree.fs.getattr, tree.fs.readlink, tree.fs.listxattr):
            with pytest.raises(OSError, match="Stale"):
                call(held)
        tree.fs.forget(held, 1)  # never raises


def test_the_root_is_never_forgotten(tmp_path: Path) -> None:
    with Layers(tmp_path).union() as tree:
        tree.fs.forget(ROOT_NODEID, 100)
        assert tree.lstat(b"").is_dir


def test_one_layer_twice_gives_each_inode_a_nodeid_of_its_own(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"one": "x"}})
    layers.lowers *= 2
    with layers.union() as tree:
        assert {entry.name for entry in tree.listdir(b"d")} == {b"one"}
        assert tree.lstat(b"d/one").ino == (layers.lowers[0] / "d/one").stat().st_ino


def test_two_names_of_a_lower_file_are_one_inode(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"a": "x", "d": {}})
    (layers.lowers[0] / "d/b").hardlink_to(layers.lowers[0] / "a")
    with layers.union() as tree:
        assert nodeid(tree, b"a") == nodeid(tree, b"d/b")


@pytest.mark.parametrize("path", [b"d", b"d/file"])
def test_an_inode_forgotten_as_it_is_found_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    """Else there would be two for one file, and one would not know what the other did."""
    hold = InodeTable.hold
    forgotten: list[Node] = []

    def forget_first(self: InodeTable, node: Node) -> bool:
        if node.name == path.rpartition(b"/")[2] and not forgotten:
            forgotten.append(node)
            self.forget(node.nodeid, 0)
        return hold(self, node)

    with Layers(tmp_path, {"d": {"file": "x"}}).union() as tree:
        monkeypatch.setattr(InodeTable, "hold", forget_first)
        held = nodeid(tree, path)
        assert nodeid(tree, path) == held
        assert state(tree).table.get(held) is not forgotten[0]
        tree.create(b"d/new", 0o600)
        assert {entry.name for entry in tree.listdir(b"d")} == {b"file", b"new"}


def test_a_key_that_leads_to_a_forgotten_inode_is_forgotten_too(tmp_path: Path) -> None:
    """A thread that used the inode while it was forgotten entered it once more."""
    layers = Layers(tmp_path, {"a": "x"})
    (layers.lowers[0] / "b").hardlink_to(layers.lowers[0] / "a")
    with layers.union() as tree:
        table = state(tree).table
        stale = table.file(nodeid(tree, b"a"))
        key = stale.key
        assert key is not None
        tree.forget_all()
        table.by_key[key] = stale
        assert nodeid(tree, b"a") == nodeid(tree, b"b")
        assert table.by_key[key] is not stale


@pytest.mark.parametrize("way", ["forgotten", "surplus"])
def test_deleted_files_are_closed_and_directories_removed_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """rmdir(2) would spin while a file of the directory is being freed."""
    held: list[bool] = []
    rmdir = os.rmdir

    class Watched(Fd):
        def __del__(self, close=os.close) -> None:  # type: ignore[no-untyped-def]
            held.append(table.freeing.locked() and not table.lock.locked())
            close(self)

    def watched_rmdir(name: bytes, *, dir_fd: int) -> None:
        held.append(table.freeing.locked())
        rmdir(name, dir_fd=dir_fd)

    with Layers(tmp_path).union() as tree:
        table = state(tree).table
        tree.mkdir(b"d", 0o755)
        tree.create(b"d/file", 0o600)
        node = table.nodes[nodeid(tree, b"d/file")]
        tree.unlink(b"d/file")
        assert isinstance(node, File) and node.orphan is not None
        node.orphan = Watched(os.dup(node.orphan))
        if way == "surplus":
            table.close_surplus(0)
        del node
        tree.forget_all()
        assert held == [True]
        monkeypatch.setattr(os, "rmdir", watched_rmdir)
        tree.rmdir(b"d")
        monkeypatch.undo()
        assert held == [True, True]


def test_a_removal_waits_for_the_file_that_is_being_freed_and_not_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    begun = threading.Event()
    rmdir = os.rmdir

    class Watched(Fd):
        def __del__(self, close=os.close) -> None:  # type: ignore[no-untyped-def]
            begun.set()
            wait_until(lambda: "removed" in done or table.removing.locked(), "a removal to begin")
            close(self)
            done.append("closed")

    def watched_rmdir(name: bytes, *, dir_fd: int) -> None:
        rmdir(name, dir_fd=dir_fd)
        done.append("removed")

    with Layers(tmp_path).union() as tree:
        table = state(tree).table
        tree.mkdir(b"d", 0o755)

        def unlinked(name: bytes) -> NodeId:
            tree.create(name, 0o600)
            node = table.nodes[nodeid(tree, name)]
            tree.unlink(name)
            assert isinstance(node, File) and node.orphan is not None
            node.orphan = Watched(os.dup(node.orphan))
            return node.nodeid

        one, two = unlinked(b"d/one"), unlinked(b"d/two")

        def forget() -> None:
            table.forget(one, 9)
            table.forget(two, 9)

        monkeypatch.setattr(inode_table, "PATIENCE_S", DEADLINE)
        monkeypatch.setattr(os, "rmdir", watched_rmdir)
        freer = threading.Thread(target=forget)
        freer.start()
        assert begun.wait(DEADLINE)
        tree.rmdir(b"d")
        freer.join(DEADLINE)
        monkeypatch.undo()
    assert done == ["closed", "removed", "closed"]


def test_a_removal_that_never_ends_stops_neither_others_nor_what_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, end = threading.Event(), threading.Event()
    rmdir = os.rmdir

    def stuck_rmdir(name: bytes, *, dir_fd: int) -> None:
        if name == b"stuck":
            begun.set()
            assert end.wait(DEADLINE)
        rmdir(name, dir_fd=dir_fd)

    with Layers(tmp_path).union() as tree:
        table = state(tree).table
        for name in (b"other", b"other/d", b"a", b"a/stuck"):
            tree.mkdir(name, 0o755)
        tree.create(b"file", 0o600)
        gone = nodeid(tree, b"file")
        tree.unlink(b"file")
        monkeypatch.setattr(os, "rmdir", stuck_rmdir)
        remover = threading.Thread(target=lambda: tree.rmdir(b"a/stuck"))
        remover.start()
        try:
            assert begun.wait(DEADLINE)
            done: list[str] = []

            def others() -> None:
                table.forget(gone, 9)
                done.append("forgotten")
                tree.rmdir(b"other/d")
                done.append("removed")

            thread = threading.Thread(target=others, daemon=True)
            thread.start()
            thread.join(DEADLINE)
            assert done == ["forgotten", "removed"]
        finally:
            end.set()
            remover.join(DEADLINE)
        monkeypatch.undo()


def test_names_of_a_file_change_places_and_go(tmp_path: Path) -> None:
    table, d, st = InodeTable(), Dir(None, b"", None, ()), os.stat(tmp_path)
    a, b, c, e = ((d, name) for name in (b"a", b"b", b"c", b"e"))
    node = File(*a, RealDir(None, None, b""), st)  # type: ignore[arg-type]
    node.aliases = [b, c]
    table.make_first(node, c)
    assert node.names() == [c, a, b]
    table.make_first(node, c)
    assert node.names() == [c, a, b]
    table.move_name(node, a, e)
    assert node.names() == [c, e, b]
    table.drop_name(node, c)
    table.drop_name(node, b)
    table.drop_name(node, e)
    assert node.names() == [e]
    table.move_name(node, e, a)
    assert node.names() == [a]
