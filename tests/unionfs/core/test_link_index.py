"""Hard links of a lower file, kept together by the index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.layers import Layers
from tests.helpers.trees import assert_same, snapshot
from tests.helpers.unions import nodeid
from unionfs.core import setup
from unionfs.core.config import WhiteoutForm
from unionfs.core.link_index import decode_delta, encode_delta


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    """Return a lower in which `a`, `b` and `d/c` are one file."""
    layers = Layers(tmp_path, {"a": "data", "d": {}})
    for name in ("b", "d/c"):
        (layers.lowers[0] / name).hardlink_to(layers.lowers[0] / "a")
    return layers


NAMES = (b"a", b"b", b"d/c")


def entries(layers: Layers) -> list[str]:
    return os.listdir(layers.work / "index")


@pytest.mark.parametrize(("delta", "value"), [(3, b"U+3"), (-2, b"U-2"), (0, b"U+0")])
def test_the_mark_of_the_count(delta: int, value: bytes) -> None:
    assert encode_delta(delta) == value
    assert decode_delta(value + b"\0", 5) == delta


@pytest.mark.parametrize("value", [b"", b"3", b"L+1", b"U+", b"U-9", b"U+12345678901"])
def test_a_count_without_sense_is_ignored(value: bytes) -> None:
    assert decode_delta(value, 5) == 0


@pytest.mark.parametrize("first", NAMES)
def test_links_stay_one_file(layers: Layers, first: bytes) -> None:
    with layers.union() as tree:
        ino = tree.lstat(first).ino
        tree.write(first, 0, b"DATA")
        for name in NAMES:
            st = tree.lstat(name)
            assert (tree.read(name), st.ino, st.nlink) == (b"DATA", ino, 3)
        assert len({nodeid(tree, name) for name in NAMES}) == 1
        wanted = snapshot(tree)
    assert len(entries(layers)) == 1
    assert_same(wanted, layers.look())
    with layers.union() as tree:
        other = NAMES[(NAMES.index(first) + 1) % 3]
        tree.append(other, b"!")
        assert tree.read(first) == b"DATA!"
        assert tree.lstat(first).ino == ino


def test_the_entry_goes_with_the_last_name(layers: Layers) -> None:
    with layers.union() as tree:
        tree.chmod(b"a", 0o600)
    with layers.union() as tree:
        for left, name in ((2, b"b"), (1, b"a")):
            tree.unlink(name)
            assert tree.lstat(b"d/c").nlink == left
    with layers.union() as tree:
        assert tree.lstat(b"d/c").nlink == 1
        assert len(entries(layers)) == 1
        tree.unlink(b"d/c")
        assert entries(layers) == []


def test_the_entry_outlives_a_name_that_is_not_the_last(layers: Layers) -> None:
    """Two names of a changed file are in the lower only; one goes, and nobody knew the other."""
    with layers.union() as tree:
        tree.write(b"a", 0, b"DATA")
        tree.unlink(b"a")
    with layers.union() as tree:
        tree.unlink(b"b")
        assert tree.read(b"d/c") == b"DATA"
        assert tree.lstat(b"d/c").nlink == 1
    assert layers.look()[b"d/c"].content == b"DATA"


def test_the_listing_of_a_new_link_has_its_number(layers: Layers) -> None:
    with layers.union() as tree:
        ino = tree.lstat(b"a").ino
        tree.chmod(b"a", 0o600)
        tree.mkdir(b"new", 0o755)
        tree.link(b"a", b"new/a")
    with layers.union() as tree:
        assert [entry.ino for entry in tree.listdir(b"new")] == [ino] == [tree.lstat(b"new/a").ino]


def test_links_of_a_symlink_without_privileged_marks(tmp_path: Path) -> None:
    """user.* has no place on a symlink, which must not keep it from being moved."""
    layers = Layers(tmp_path, {"d": {}})
    (layers.lowers[0] / "a").symlink_to("target")
    for name in ("b", "c"):
        os.link(layers.lowers[0] / "a", layers.lowers[0] / name, follow_symlinks=False)
    with layers.union(userxattr=True) as tree:
        tree.rename(b"a", b"d/a", 0)
        tree.rename(b"b", b"c2", 0)
        assert {tree.lstat(name).nlink for name in (b"d/a", b"c2", b"c")} == {3}
    with layers.union(userxattr=True) as tree:
        assert {tree.readlink(name) for name in (b"d/a", b"c2", b"c")} == {b"target"}


def test_a_new_link_and_a_rename_over_one(layers: Layers) -> None:
    with layers.union() as tree:
        tree.link(b"a", b"new")
        assert tree.lstat(b"b").nlink == 4
        tree.create(b"other", 0o600)
        tree.rename(b"other", b"b", 0)
        assert tree.lstat(b"d/c").nlink == 3
        tree.rename(b"d/c", b"moved", 0)
        wanted = snapshot(tree)
    assert_same(wanted, layers.look())


def test_without_the_index_links_are_broken(layers: Layers) -> None:
    with layers.union(index=False) as tree:
        tree.write(b"a", 0, b"DATA")
        assert tree.read(b"b") == b"data"
        assert tree.lstat(b"a").nlink == 1
    assert not (layers.work / "index").exists()
    assert layers.look(index=False)[b"b"].content == b"data"


def test_links_of_other_files_are_left_alone(layers: Layers) -> None:
    with layers.union() as tree:
        tree.link(b"a", b"x")
        tree.create(b"one", 0o600)
        tree.link(b"one", b"two")
        tree.unlink(b"one")
        assert tree.lstat(b"two").nlink == 1
    assert len(entries(layers)) == 1


USER: dict[str, Any] = {"userxattr": True, "whiteout": WhiteoutForm.XATTR}


@pytest.fixture
def fifos(tmp_path: Path) -> Layers:
    """Return a lower in which `a`, `b` and `d/c` are one fifo, which cannot bear user.*."""
    layers = Layers(tmp_path, {"d": {}})
    os.mkfifo(layers.lowers[0] / "a", 0o644)
    for name in ("b", "d/c"):
        os.link(layers.lowers[0] / "a", layers.lowers[0] / name)
    return layers


def test_what_bears_no_mark_stays_one_file(fifos: Layers) -> None:
    with fifos.union(**USER) as tree:
        ino = tree.lstat(b"a").ino
        tree.chmod(b"b", 0o600)
    for _ in range(2):
        with fifos.union(**USER) as tree:
            for name in NAMES:
                st = tree.lstat(name)
                assert (st.ino, st.nlink, st.mode & 0o777) == (ino, 3, 0o600), name
            assert len({nodeid(tree, name) for name in NAMES}) == 1
            assert {entry.ino for entry in tree.listdir(b"d")} == {ino}


def test_the_count_of_what_bears_no_mark_outlives_the_mount(fifos: Layers) -> None:
    for left, name in ((3, b"a"), (2, b"b"), (1, b"d/c")):
        with fifos.union(**USER) as tree:
            assert tree.lstat(name).nlink == left
            tree.chmod(name, 0o600)
            tree.unlink(name)
    assert entries(fifos) == []


def test_a_name_in_lowers_only_leads_to_what_bears_no_mark(fifos: Layers) -> None:
    """The name it was copied up by goes; the others find it by the index."""
    with fifos.union(**USER) as tree:
        nodeid(tree, b"b")
        tree.chmod(b"a", 0o600)
        tree.unlink(b"a")
        for name in NAMES[1:]:
            assert tree.lstat(name).mode & 0o777 == 0o600
        tree.rename(b"b", b"e", 0)
        assert tree.lstat(b"e").nlink == 2


def test_a_count_without_its_entry_is_swept(fifos: Layers) -> None:
    """A crash came between the note of a copy and the copy."""
    with fifos.union(**USER):
        pass
    (fifos.work / "index/00fb.nlink").touch()
    with fifos.union(**USER):
        assert entries(fifos) == []


def test_entries_made_where_the_uuid_was_not_known_are_found(
    layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel before 6.9 did not tell it, so that an update of the kernel lost the links."""
    with monkeypatch.context() as old:
        old.setattr(setup, "filesystem_uuid", lambda fd: bytes(16))
        with layers.union() as tree:
            tree.write(b"a", 0, b"DATA")
    (made,) = entries(layers)
    monkeypatch.setattr(setup, "filesystem_uuid", lambda fd: b"U" * 16)
    for _ in range(2):
        with layers.union() as tree:
            for name in NAMES:
                assert (tree.read(name), tree.lstat(name).nlink) == (b"DATA", 3)
            tree.unlink(b"b")
            tree.link(b"d/c", b"b")
    (entry,) = entries(layers)
    assert entry == made[:10] + (b"U" * 16).hex() + made[42:]
    marks = [os.getxattr(layers.upper / "a", name) for name in os.listxattr(layers.upper / "a")]
    assert bytes.fromhex(entry) in marks
