"""Which names of an archive delete something, and which of them have an effect."""

from __future__ import annotations

import stat

import pytest

from layerstore.errors import InvalidImage, LimitExceeded, UnsafePath
from layerstore.layer.deletions import Deletions
from layerstore.layer.index import IndexEntry


def entries(**kinds: int) -> dict[bytes, IndexEntry]:
    found = {b"": IndexEntry(b"", stat.S_IFDIR, 0, 0, 0, 0)}
    for name, kind in kinds.items():
        path = name.replace("__", "/").encode()
        found[path] = IndexEntry(path, kind, 0, 0, 0, 0)
    return found


DIR, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK


def effective(deletions: Deletions) -> list[bytes]:
    opaque = set(deletions.opaque())
    return [found.path for found in deletions.whiteouts(opaque)]


@pytest.mark.parametrize(
    ("path", "is_mark"),
    [
        (b"a", False),
        (b"a/b.wh.c", False),
        (b".wh.a", True),
        (b"d/.wh.a", True),
        (b".wh..wh..opq", True),
        (b".wh..wh.aufs", True),
        (b".wh..wh.plnk/1.2", True),
    ],
)
def test_which_names_are_marks(path: bytes, is_mark: bool) -> None:
    assert Deletions(entries(), lambda _: None).note(path) is is_mark


@pytest.mark.parametrize("path", [b".wh.", b".wh..", b".wh...", b"d/.wh."])
def test_no_file_can_have_that_name(path: bytes) -> None:
    with pytest.raises(UnsafePath):
        Deletions(entries(), lambda _: None).note(path)


def test_nothing_lies_beneath_a_whiteout() -> None:
    with pytest.raises(InvalidImage, match="beneath a whiteout"):
        Deletions(entries(), lambda _: None).note(b".wh.a/b")


def test_what_lies_beneath_no_directory_has_no_effect() -> None:
    deletions = Deletions(entries(d=DIR, d__f=FILE, l=LINK), lambda _: None)
    for path in (b"d/.wh.x", b"d/f/.wh.x", b"d/f/a/b/.wh.x", b"l/.wh.x", b"new/deep/.wh.x"):
        deletions.note(path)
    assert effective(deletions) == [b"d/x", b"new/deep/x"]


def test_what_lies_in_an_opaque_directory_has_no_effect() -> None:
    deletions = Deletions(entries(d=DIR, d__e=DIR, d2=DIR), lambda _: None)
    for path in (b"d/.wh..wh..opq", b"d/.wh.x", b"d/e/.wh.x", b"d/new/.wh.x", b"d2/.wh.x"):
        deletions.note(path)
    assert effective(deletions) == [b"d2/x"]


def test_a_directory_that_becomes_opaque_hides_what_comes_after_it() -> None:
    deletions = Deletions(entries(d=DIR, d__e=DIR), lambda _: None)
    for path in (b"d/e/.wh.x", b".wh.d", b".wh.z"):
        deletions.note(path)
    opaque: set[bytes] = set()
    found = []
    for whiteout in deletions.whiteouts(opaque):
        found.append(whiteout.path)
        if whiteout.path == b"d":
            opaque.add(b"d")
    assert found == [b"d", b"z"]
    assert deletions.pending == 0


def test_each_is_counted_once() -> None:
    counted: list[bytes] = []

    def count(path: bytes) -> None:
        if len(counted) == 2:
            raise LimitExceeded("too many")
        counted.append(path)

    deletions = Deletions(entries(), count)
    for path in (b".wh.a", b".wh.a", b".wh..wh..opq"):
        deletions.note(path)
    with pytest.raises(LimitExceeded):
        deletions.note(b".wh.b")
    assert counted == [b"a", b""]
