"""Listings: every name once, cookies that stay good while the directory changes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import Content, core, nodeid
from unionfs.core import readdir
from unionfs.core.inode import Dir
from unionfs.core.lookup import NodeStat, lookup_locked
from unionfs.core.state import State
from unionfs.core.whiteout import DT_DIR, DT_REG
from unionfs.types import ROOT_NODEID, DirEntry, Listed, LookedUp, NodeId


def listed(tree: CoreDriver, nodeid: NodeId, offset: int = 0) -> list[DirEntry]:
    return list(core(tree).listdir(nodeid, offset))


def looked_up(
    tree: CoreDriver, nodeid: NodeId, what: LookedUp = LookedUp.EVERYTHING
) -> list[Listed]:
    return list(core(tree).list_looked_up(nodeid, 0, what, int))


def mixed(tmp_path: Path) -> Layers:
    """Return layers with files of every kind in `d`: of each layer, links, copies, whiteouts."""
    top: Content = {"d": {"top": "t", "hidden": "", "sub": {}}}
    layers = Layers(tmp_path, top, {"d": {"low": "l", "up": "u", "gone": "", "hidden": "x"}})
    low = layers.lowers[1] / "d"
    os.link(low / "low", low / "link")
    os.symlink("low", low / "symlink")
    os.mkfifo(low / "fifo")
    os.mkdir(low / "only")
    with layers.union() as tree:
        tree.chmod(b"d/up", 0o600)
        tree.unlink(b"d/gone")
        tree.create(b"d/new", 0o600)
    return layers


def test_what_is_looked_up_by_a_listing_is_as_lookup_finds_it(tmp_path: Path) -> None:
    layers = mixed(tmp_path)
    with layers.union() as tree:
        fs, held = core(tree), nodeid(tree, b"d")
        entries = looked_up(tree, held)
        assert [entry[4] for entry in entries[:2]] == [None, None]
        assert {name for _, name, *_ in entries[2:]} == {
            *(b"top", b"hidden", b"sub", b"low", b"up", b"link", b"symlink", b"fifo", b"only"),
            b"new",
        }
        for cookie, name, d_type, st_ino, attr in entries[2:]:
            assert attr is not None
            assert attr == fs.lookup(held, name)
            assert (d_type, st_ino) == (stat.S_IFMT(attr.st.st_mode) >> 12, attr.st_ino)
            assert DirEntry(cookie, name, d_type, st_ino) in listed(tree, held)
            fs.forget(attr.nodeid, 1)
        known = fs.counters()["inodes"]
        for *_, attr in entries[2:]:
            assert attr is not None
            fs.forget(attr.nodeid, 1)
        # `low` and `link` are one inode.
        assert fs.counters()["inodes"] == known - len(entries[2:]) + 1
    with layers.union() as tree:
        fs, held = core(tree), nodeid(tree, b"d")
        before = {name: fs.lookup(held, name) for name in (b"low", b"fifo", b"new", b"top")}
        again = {entry[1]: entry[4] for entry in looked_up(tree, held)}
        assert before.items() <= again.items()
        for attr in [*before.values(), *list(again.values())[2:]]:
            assert attr is not None
            fs.forget(attr.nodeid, 1)


def test_a_file_that_cannot_be_looked_up_is_listed_without_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mixed(tmp_path).union() as tree:
        fs, held = core(tree), nodeid(tree, b"d")
        listed(tree, held)
        real_stat = os.stat

        def fail(path: int | bytes, **named: Any) -> os.stat_result:
            if path in (b"up", b"low", b"top"):
                raise OSError(errno.EIO, "a fault")
            return real_stat(path, **named)

        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", fail)
            entries = looked_up(tree, held)
        lacking = {name for _, name, _, _, attr in entries if attr is None}
        assert lacking == {b".", b"..", b"up", b"low", b"top"}
        for *_, attr in entries:
            if attr is not None:
                fs.forget(attr.nodeid, 1)


def test_one_file_can_be_left_out(tmp_path: Path) -> None:
    with Layers(tmp_path, {"d": {"a": "", "b": "", "c": "", "sub": {}}}).union() as tree:
        fs, held = core(tree), nodeid(tree, b"d")
        entries = looked_up(tree, held, LookedUp.ALL_BUT_A_FILE)
        files = [attr for _, _, d_type, _, attr in entries if d_type == DT_REG]
        assert [attr is None for attr in files] == [True, False, False]
        assert [name for _, name, d_type, _, attr in entries if d_type == DT_DIR and attr] == [
            b"sub"
        ]
        for *_, attr in entries:
            if attr is not None:
                fs.forget(attr.nodeid, 1)


def test_directories_are_told_before_they_are_looked_at_if_they_are_known(tmp_path: Path) -> None:
    with Layers(tmp_path, {"d": {"known": {}, "new": {}, "file": ""}}).union() as tree:
        fs, held = core(tree), nodeid(tree, b"d")
        known = fs.lookup(held, b"known")
        assert known is not None
        tree.chmod(b"d/known", 0o700)
        modes: dict[NodeId, int] = {}

        def tell(nodeid: NodeId) -> None:
            modes[nodeid] = stat.S_IMODE(fs.getattr(nodeid).st.st_mode)
            if nodeid == known.nodeid:
                tree.chmod(b"d/known", 0o711)

        entries = {
            entry[1]: entry[4] for entry in fs.list_looked_up(held, 0, LookedUp.DIRECTORIES, tell)
        }
        seen, new = entries[b"known"], entries[b"new"]
        assert seen is not None
        assert new is not None
        assert entries[b"file"] is None
        assert modes == {known.nodeid: 0o700, new.nodeid: 0o755}
        assert stat.S_IMODE(seen.st.st_mode) == 0o711
        for attr in (known, seen, new):
            fs.forget(attr.nodeid, 1)


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
        assert {entry.name: entry.st_ino for entry in listed(tree, held)} == shown
        assert asked == {b"file", b"sub"}
        asked.clear()
        numbers = {entry[1]: entry[3] for entry in looked_up(tree, held, LookedUp.DIRECTORIES)}
        assert asked == {b"file"}
        assert numbers == shown
        asked.clear()
        numbers = {entry[1]: entry[3] for entry in looked_up(tree, held)}
        assert asked == set()
        assert numbers == shown
        for name in (b"file", b"sub", b"sub"):
            core(tree).forget(nodeid(tree, b"d/" + name), 1)


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
