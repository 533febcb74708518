"""What an index remembers of a tree, and every way in which a tree can differ from it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from layerstore.errors import InvalidImage
from layerstore.layer import index as layer_index
from layerstore.layer.holes import HOLES
from layerstore.layer.index import Difference, IndexEntry, compare, read_index, scan, write_index
from tests.helpers.unions import fill


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    top.mkdir()
    fill(top, {"d": {"f": "content", "g": "other"}, "e": "x"})
    (top / "link").symlink_to("target")
    (top / os.fsdecode(b"\xff\n")).write_text("odd")
    os.setxattr(top / "e", "user.x", b"\0\xff")
    return top


def indexed(tree: Path) -> dict[bytes, IndexEntry]:
    path = tree.with_name("index")
    path.unlink(missing_ok=True)
    write_index(path, scan(tree))
    return {entry.path: entry for entry in read_index(path)}


def test_what_is_written_is_read(tree: Path) -> None:
    entries = indexed(tree)
    assert list(entries.values()) == list(scan(tree))
    assert list(entries) == sorted(entries)
    assert entries[b"e"].xattrs == (("user.x", b"\0\xff"),)
    assert entries[b"link"].target == b"target"
    assert list(compare(tree, entries)) == []


def become(path: Path, make: Callable[[], object]) -> None:
    path.unlink()
    make()


CHANGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("e", lambda path: path.write_text("y"), "differs in time, content"),
    ("e", lambda path: path.chmod(0o600), "differs in mode"),
    ("e", lambda path: os.setxattr(path, "user.x", b"2"), "differs in xattrs"),
    ("e", lambda path: path.unlink(), "is missing"),
    (
        "link",
        lambda path: become(path, lambda: path.symlink_to("other")),
        "differs in time, target",
    ),
    ("link", lambda path: become(path, path.mkdir), "is of another type"),
    ("new", lambda path: path.touch(), "is not in the layer"),
]


@pytest.mark.parametrize(("name", "change", "said"), CHANGES)
def test_differences(tree: Path, name: str, change: Callable[[Path], object], said: str) -> None:
    entries = indexed(tree)
    time = tree.stat().st_mtime_ns
    change(tree / name)
    os.utime(tree, ns=(time, time))
    assert list(compare(tree, entries)) == [Difference(name.encode(), said)]


def test_content_changed_behind_its_time(tree: Path) -> None:
    entries = indexed(tree)
    st = (tree / "e").stat()
    (tree / "e").write_text("z")
    os.utime(tree / "e", ns=(st.st_atime_ns, st.st_mtime_ns))
    assert list(compare(tree, entries)) == [Difference(b"e", "differs in content")]
    assert list(compare(tree, entries, content=False)) == []


@pytest.mark.parametrize("version", [1, 2])
def test_large_holes_in_an_index_of_each_version(
    tree: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of version 1, which hashed the zeros of a hole, is still compared by content."""
    with (tree / "sparse").open("wb") as file:
        file.truncate(8 << 20)
    if version == 1:
        monkeypatch.setattr(layer_index, "VERSION", 1)
        plain = {b"sparse": xxhash.xxh3_128_hexdigest(bytes(8 << 20))}
        write_index(tree.with_name("index"), scan(tree, digests=plain))
        entries = {entry.path: entry for entry in read_index(tree.with_name("index"))}
        monkeypatch.undo()
    else:
        entries = indexed(tree)
    assert entries[b"sparse"].digest.startswith(HOLES) == (version == 2)
    assert list(compare(tree, entries)) == []
    time = (tree / "sparse").stat().st_mtime_ns
    with (tree / "sparse").open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"x")
    os.utime(tree / "sparse", ns=(time, time))
    assert list(compare(tree, entries)) == [Difference(b"sparse", "differs in content")]
    with (tree / "sparse").open("r+b") as file:
        file.write(bytes(8 << 20))
    os.utime(tree / "sparse", ns=(time, time))
    assert list(compare(tree, entries)) == [], "zeros are as good as a hole"


def test_an_index_of_a_later_version_is_not_guessed_at(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_index, "VERSION", 3)
    indexed_path = tree.with_name("index")
    write_index(indexed_path, scan(tree))
    monkeypatch.undo()
    with pytest.raises(InvalidImage, match="it is of version 3"):
        list(read_index(indexed_path))


def test_known_digests_are_not_computed_again(tree: Path) -> None:
    found = {entry.path: entry.digest for entry in scan(tree, digests={b"e": "known"})}
    assert found[b"e"] == "known"
    assert found[b"d/f"] == indexed(tree)[b"d/f"].digest


def test_a_damaged_index(tree: Path) -> None:
    indexed(tree)
    path = tree.with_name("index")
    good = path.read_bytes()
    for bad in (b"", good[: len(good) // 2], b"{}" + good):
        path.write_bytes(bad)
        with pytest.raises(InvalidImage, match=r"the index .* is damaged"):
            list(read_index(path))
    path.unlink()
    with pytest.raises(InvalidImage, match="is missing"):
        list(read_index(path))


def test_ids_that_stand_for_root_are_as_good_as_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of a user's layers were made in the user namespace, and some outside of it."""
    (tmp_path / "file").touch()
    index = {entry.path: entry._replace(uid=4000, gid=5000) for entry in scan(tmp_path)}
    own = (frozenset((0, 4000, os.getuid())), frozenset((0, 5000, os.getgid())))
    assert [found.what for found in compare(tmp_path, index)] == ["differs in owner, group"] * 2
    monkeypatch.setattr(layer_index, "ids_of_root", lambda: own)
    assert list(compare(tmp_path, index)) == []
    index[b"file"] = index[b"file"]._replace(uid=4001, mtime_ns=0)
    assert [found.what for found in compare(tmp_path, index)] == ["differs in owner, time"]


def test_attributes_that_belong_to_the_machine_are_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS lists system.nfs4_acl for every file, which `check` called damage."""
    there = ["security.selinux", "system.nfs4_acl"]
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: there)
    assert layer_index.attributes(os.fsencode(tmp_path)) == ()
