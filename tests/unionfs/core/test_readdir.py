"""Listings: every name once, cookies that stay good while the directory changes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import core, nodeid
from unionfs.core import readdir
from unionfs.core.inode import Dir
from unionfs.core.lookup import NodeStat, lookup_locked
from unionfs.core.state import State
from unionfs.types import ROOT_NODEID, DirEntry, LookedUp, NodeId


def listed(tree: CoreDriver, nodeid: NodeId, offset: int = 0) -> list[DirEntry]:
    return list(core(tree).listdir(nodeid, offset))


def test_cookies_go_on_where_they_stand(tmp_path: Path) -> None:
    with Layers(tmp_path, {"d": {str(n): "" for n in range(20)}}).union() as tree:
        held = nodeid(tree, b"d")
        full = listed(tree, held)
        assert [entry.name for entry in full[:2]] == [b".", b".."]
        assert len({entry.cookie for entry in full}) == 22
        for position, entry in enumerate(full):
            assert listed(tree, held, entry.cookie) == full[position + 1 :]


def test_the_dots_have_the_numbers_stat_shows(tmp_path: Path) -> None:
    with Layers(tmp_path, {"d": {}}).union() as tree:
        dot, dots = listed(tree, nodeid(tree, b"d"))
        assert (dot.st_ino, dots.st_ino) == (tree.lstat(b"d").ino, tree.lstat(b"").ino)
        assert listed(tree, ROOT_NODEID)[1].st_ino == tree.lstat(b"").ino


def test_names_that_are_looked_up_anyway_are_not_looked_up_for_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a merged directory the number of a copy takes a lookup."""
    layers = Layers(tmp_path, {"d": {"file": "x", "sub": {}}})
    with layers.union() as tree:
        tree.chmod(b"d/file", 0o600)
        tree.chmod(b"d/sub", 0o700)
        shown = {entry.name: entry.st_ino for entry in listed(tree, nodeid(tree, b"d"))}
    with layers.union() as tree:
        held = nodeid(tree, b"d")
        asked: set[bytes] = set()

        def counting(state: State, d: Dir, name: bytes) -> NodeStat | None:
            asked.add(name)
            return lookup_locked(state, d, name)

        monkeypatch.setattr(readdir, "lookup_locked", counting)
        names, lookups = {}, {}
        for looked_up in LookedUp:
            asked.clear()
            entries = list(core(tree).listdir(held, 0, looked_up))
            assert {entry.name for entry in entries} == shown.keys()
            assert all(entry.st_ino for entry in entries)
            assert [entry.st_ino for entry in entries[:2]] == [shown[b"."], shown[b".."]]
            names[looked_up] = {entry.name: entry.st_ino for entry in entries}
            lookups[looked_up] = asked.copy()
        assert lookups == {
            LookedUp.NOTHING: {b"file", b"sub"},
            LookedUp.DIRECTORIES: {b"file"},
            LookedUp.EVERYTHING: set(),
        }
        assert names[LookedUp.NOTHING] == shown
        assert names[LookedUp.DIRECTORIES][b"file"] == shown[b"file"]


def test_a_directory_may_change_while_it_is_read(tmp_path: Path) -> None:
    with Layers(tmp_path, {"d": {str(n): "" for n in range(10)}}).union() as tree:
        held = nodeid(tree, b"d")
        first = listed(tree, held)[:7]
        for entry in first[2:4]:
            tree.unlink(b"d/" + entry.name)
        tree.create(b"d/new", 0o600)
        rest = listed(tree, held, first[-1].cookie)
        seen = [entry.name for entry in first + rest]
        assert len(seen) == len(set(seen))
        assert {b"%d" % n for n in range(10)} <= set(seen)


def test_reading_while_removing_everything(tmp_path: Path) -> None:
    """As `rm -r` does: read some, remove them, read on."""
    layers = Layers(tmp_path, {"d": {f"low{n}": "" for n in range(300)}})
    with layers.union() as tree:
        held = nodeid(tree, b"d")
        for n in range(300):
            tree.create(b"d/up%d" % n, 0o600)
        offset, removed = 0, 0
        while some := listed(tree, held, offset)[:17]:
            for entry in some:
                if entry.name not in (b".", b".."):
                    tree.unlink(b"d/" + entry.name)
                    removed += 1
            offset = some[-1].cookie
        assert removed == 600
        tree.rmdir(b"d")


def churn(tree: CoreDriver, times: int = 1) -> None:
    """Make and remove so many names that the directory gets a new listing."""
    for _ in range(times):
        for n in range(100):
            tree.create(b"d/gone%d" % n, 0o600)
        listed(tree, nodeid(tree, b"d"))
        for n in range(100):
            tree.unlink(b"d/gone%d" % n)
        listed(tree, nodeid(tree, b"d"))


def test_a_new_listing_shows_what_is_made_after_it(tmp_path: Path) -> None:
    with Layers(tmp_path, {"d": {"kept": ""}}).union() as tree:
        held = nodeid(tree, b"d")
        names = {b".", b"..", b"kept"}
        for n in range(4):
            churn(tree)
            tree.create(b"d/new%d" % n, 0o600)
            names.add(b"new%d" % n)
            assert {entry.name for entry in listed(tree, held)} == names


@pytest.mark.parametrize("times", [1, 2, 3])
def test_new_listings_hide_nothing_from_a_reader(tmp_path: Path, times: int) -> None:
    with Layers(tmp_path, {"d": {}}).union() as tree:
        held = nodeid(tree, b"d")
        for kind in (b"first", b"kept"):
            for n in range(10):
                tree.create(b"d/%s%d" % (kind, n), 0o600)
            listed(tree, held)
        first = listed(tree, held)[: 2 + 10]
        for n in range(10):
            tree.unlink(b"d/first%d" % n)
        churn(tree, times)
        rest = listed(tree, held, first[-1].cookie)
        assert {b"kept%d" % n for n in range(10)} <= {entry.name for entry in rest}


def test_types_and_numbers_are_those_of_stat(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"file": "", "dir": {}}})
    folder = layers.lowers[0] / "d"
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("file")
    os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with layers.union() as tree:
        for change in (False, True):
            if change:
                for name in (b"file", b"dir", b"fifo", b"device"):
                    tree.chmod(b"d/" + name, 0o600)
                tree.forget_all()
            for entry in listed(tree, nodeid(tree, b"d"))[2:]:
                st = tree.lstat(b"d/" + entry.name)
                assert entry.d_type << 12 == stat.S_IFMT(st.mode)
                assert entry.st_ino == st.ino
