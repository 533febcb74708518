"""How far down directories are merged, what that takes, and which lower provides a name."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.counting import count_calls
from tests.helpers.layers import Layers
from tests.helpers.unions import Content, core, errno_of, nodeid, state
from unionfs.core import merge, whiteout
from unionfs.core.inode import Dir
from unionfs.core.lookup import load_locked
from unionfs.core.merge import resolve_locked
from unionfs.core.whiteout import Marks, Scan
from unionfs.types import ROOT_NODEID

DEPTH = 40


def directory(tree: CoreDriver, path: bytes) -> Dir:
    return state(tree).table.directory(nodeid(tree, path))


def paths(d: Dir) -> list[bytes]:
    return [real.full_path() for real in d.lowers]


# -- what it takes --


def test_each_real_directory_is_opened_asked_for_marks_and_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(tmp_path, *({"d": {f"f{n}": ""}} for n in range(DEPTH)))
    listed: Counter[bytes] = Counter()
    listing, readlink = whiteout.scan, os.readlink

    def noted(marks: Marks, fd: int, *, xwhiteouts: bool, **packing: int) -> Scan:
        listed[readlink(b"/proc/self/fd/%d" % fd)] += 1
        return listing(marks, fd, xwhiteouts=xwhiteouts, **packing)

    monkeypatch.setattr(merge, "scan", noted)
    with layers.union() as tree:
        folder = nodeid(tree, b"d")
        tree.fs.getattr(folder)  # opens the topmost one
        listed.clear()
        calls = count_calls(monkeypatch, lambda: tree.fs.lookup(folder, b"absent"))
        assert calls == {"open": DEPTH - 1, "listxattr": DEPTH}
        assert listed == {os.fsencode(lower / "d"): 1 for lower in layers.lowers}


def test_the_names_of_the_root_are_read_without_opening_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(tmp_path, *({f"f{n}": ""} for n in range(DEPTH)))
    with layers.union() as tree:
        calls = count_calls(monkeypatch, lambda: tree.fs.lookup(ROOT_NODEID, b"absent"))
        assert not calls


def test_only_what_provides_a_name_stays_open(tmp_path: Path) -> None:
    """Names of the others are never looked up there."""
    contents = [{"d": {"shadowed": "", f"only{n}": ""} if n % 4 == 0 else {}} for n in range(DEPTH)]
    shadowed = [{"d": {"shadowed": ""}} for _ in range(DEPTH)]
    with Layers(tmp_path, *contents, *shadowed).union() as tree:
        folder = nodeid(tree, b"d")
        assert tree.fs.lookup(folder, b"absent") is None
        assert len(state(tree).fds) == DEPTH // 4
        assert tree.read(b"d/shadowed") == b""
        assert len(state(tree).fds) == DEPTH // 4


def test_the_empty_top_of_a_directory_can_be_looked_at(tmp_path: Path) -> None:
    with Layers(tmp_path, {"d": {}}, {"d": {"f": "1"}}).union() as tree:
        assert tree.read(b"d/f") == b"1"
        assert tree.lstat(b"d").ino == os.lstat(tmp_path / "lower0/d").st_ino
        tree.mkdir(b"d/new", 0o755)
        assert {entry.name for entry in tree.listdir(b"d")} == {b"f", b"new"}


@pytest.mark.parametrize("room", [1, 3, DEPTH])
def test_more_layers_than_directories_may_be_open(tmp_path: Path, room: int) -> None:
    layers = Layers(tmp_path, *({"d": {"e": {f"f{n}": str(n)}}} for n in range(DEPTH)))
    with layers.union(open_dirs=room) as tree:
        assert len(tree.listdir(b"d/e")) == DEPTH
        assert [tree.read(b"d/e/f%d" % n) for n in range(DEPTH)] == [
            b"%d" % n for n in range(DEPTH)
        ]
        assert len(state(tree).fds) <= room


# -- how far it goes --


def opaque(folder: Path) -> None:
    os.setxattr(folder, "trusted.overlay.opaque", b"y")


def opaque_by_name(folder: Path) -> None:
    (folder / ".wh..wh..opq").touch()


def opaque_of_fuse_overlayfs(folder: Path) -> None:
    os.setxattr(folder, "user.fuseoverlayfs.opaque", b"y")


def leads_to_other(folder: Path) -> None:
    os.setxattr(folder, "trusted.overlay.redirect", b"other")


def leads_from_the_root(folder: Path) -> None:
    os.setxattr(folder, "trusted.overlay.redirect", b"/p/other")


def xwhiteouts(folder: Path) -> None:
    os.setxattr(folder, "trusted.overlay.opaque", b"x")
    os.setxattr(folder / "f1", "trusted.overlay.whiteout", b"y")


# What is merged of the directory d if it is marked in the second of four layers.
ENDS: list[tuple[Callable[[Path], None], list[str]]] = [
    (opaque, ["lower0/p/d", "lower1/p/d"]),
    (opaque_by_name, ["lower0/p/d", "lower1/p/d"]),
    (opaque_of_fuse_overlayfs, ["lower0/p/d", "lower1/p/d"]),
    (leads_to_other, ["lower0/p/d", "lower1/p/d", "lower2/p/other", "lower3/p/other"]),
    (leads_from_the_root, ["lower0/p/d", "lower1/p/d", "lower2/p/other", "lower3/p/other"]),
    (xwhiteouts, ["lower0/p/d", "lower1/p/d", "lower2/p/d", "lower3/p/d"]),
]


def marked_stack(base: Path, mark: Callable[[Path], None]) -> Layers:
    contents: list[Content] = [
        {"p": {"d": {f"f{n}": "", "f": ""}, "other": {f"o{n}": "", "f": ""}}} for n in range(4)
    ]
    layers = Layers(base, *contents)
    mark(layers.lowers[1] / "p/d")
    return layers


@pytest.mark.parametrize(("mark", "ends"), ENDS)
def test_the_first_lookup_and_the_marks_alone_say_the_same(
    tmp_path: Path, mark: Callable[[Path], None], ends: list[str]
) -> None:
    layers = marked_stack(tmp_path, mark)
    wanted = [os.fsencode(tmp_path / path) for path in ends]
    names = {name for path in wanted for name in os.listdir(path)} - {b".wh..wh..opq"}
    if mark is xwhiteouts:
        names.discard(b"f1")
    with layers.union() as tree:
        one = directory(tree, b"p/d")
        with one.lock:
            resolve_locked(state(tree), one)
        assert paths(one) == wanted
        assert {entry.name for entry in tree.listdir(b"p/d")} == names
    with layers.union() as tree:
        other = directory(tree, b"p/d")
        assert not other.resolved
        with other.lock:
            load_locked(state(tree), other)
        assert other.resolved
        assert other.merged
        assert paths(other) == wanted
        assert {entry.name for entry in tree.listdir(b"p/d")} == names


def test_whiteouts_hide_in_the_layers_beneath_theirs_only(tmp_path: Path) -> None:
    layers = Layers(
        tmp_path,
        {"d": {"a": "0"}},
        {"d": {"a": None, "b": None, "c": "1"}},
        {"d": {"a": "2", "b": "2", "c": {"x": "2"}, "e": {"y": "2"}}},
        {"d": {"b": "3", "c": {"x": "3"}, "e": {"z": "3"}}},
    )
    with layers.union() as tree:
        assert {entry.name for entry in tree.listdir(b"d")} == {b"a", b"c", b"e"}
        assert (tree.read(b"d/a"), tree.read(b"d/c")) == (b"0", b"1")
        assert {entry.name for entry in tree.listdir(b"d/e")} == {b"y", b"z"}
        loaded = directory(tree, b"d").require_loaded()
        assert loaded.positions(b"e") == (2, 3)
        assert loaded.positions(b"a") == (0,)


@pytest.mark.parametrize("mark", [leads_to_other, leads_from_the_root])
def test_a_file_hides_what_is_beneath_the_last_directory_of_its_name_that_leads_on(
    tmp_path: Path, mark: Callable[[Path], None]
) -> None:
    layers = Layers(
        tmp_path,
        {"p": {"d": {"x": {"shown": ""}}}},
        {"p": {"d": {"x": "file"}}},
        {"p": {"other": {"x": {"hidden": ""}, "y": ""}}},
    )
    mark(layers.lowers[1] / "p/d")
    with layers.union() as tree:
        assert {entry.name for entry in tree.listdir(b"p/d")} == {b"x", b"y"}
        assert {entry.name for entry in tree.listdir(b"p/d/x")} == {b"shown"}


def test_a_directory_that_could_not_be_read_is_read_by_the_next_lookup(tmp_path: Path) -> None:
    layers = marked_stack(tmp_path, leads_to_other)
    marked = layers.lowers[1] / "p/d"
    os.setxattr(marked, "trusted.overlay.redirect", b"no/such")
    with layers.union(lowers_change=True) as tree:
        folder = nodeid(tree, b"p/d")
        d = directory(tree, b"p/d")
        assert errno_of(lambda: core(tree).lookup(folder, b"o3")) == errno.EIO
        assert not d.resolved
        assert len(d.lowers) == 4
        leads_to_other(marked)
        assert b"o3" in {entry.name for entry in tree.listdir(b"p/d")}


def test_an_upper_that_is_opaque_by_a_name_needs_no_look_at_the_lowers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(tmp_path, {"d": {"hidden": ""}}, {"d": {"hidden": ""}})
    (layers.upper / "d").mkdir()
    opaque_by_name(layers.upper / "d")
    with layers.union() as tree:
        folder = nodeid(tree, b"d")
        calls = count_calls(monkeypatch, lambda: tree.fs.lookup(folder, b"hidden"))
        assert not calls
        assert directory(tree, b"d").lowers == ()
        assert tree.listdir(b"d") == []
