"""Hard links that AUFS kept in .wh..wh.plnk."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerstore.layer.metadata import Metadata
from layerstore.layer.new_files import FileMaker
from layerstore.layer.pseudo_links import PREFIX, PseudoLinks
from layerstore.tar.pipeline import Feed
from layerstore.tar.reader import TarReader
from tests.layerstore.archives import PRIVILEGED, file, folder, whole


@contextmanager
def taken(
    staging: Path, *parts: bytes
) -> Iterator[tuple[PseudoLinks, list[bool], list[bytes], bytearray]]:
    """Offer each entry of an archive; yield the links, the answers, what counts, and the raw."""
    counted: list[bytes] = []
    raw = bytearray()
    with Feed(io.BytesIO(whole(*parts))) as feed:
        reader = TarReader(feed, lambda data: None)
        maker = FileMaker(feed, reader, Metadata(privileged=PRIVILEGED))
        links = PseudoLinks(staging, maker, counted.append)
        answers = [links.take(entry, raw.extend) for entry in reader]
        yield links, answers, counted, raw
        links.close()


def test_only_files_directly_in_the_directory_are_taken(tmp_path: Path) -> None:
    parts = (
        folder(b".wh..wh.plnk"),
        file(b".wh..wh.plnk/1.2", b"content"),
        file(b".wh..wh.plnk/sub/1.2", b"deeper"),
        folder(b".wh..wh.plnk/3.4"),
        file(b"plain", b"plain"),
    )
    with taken(tmp_path, *parts) as (_, answers, counted, raw):
        assert answers == [False, True, False, False, False]
        assert counted == [b".wh..wh.plnk/1.2"]
        assert raw == b"content"


def test_every_link_is_the_same_file_and_outlives_the_staging(tmp_path: Path) -> None:
    staging, tree = tmp_path / "staging", tmp_path / "tree"
    staging.mkdir()
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    target = PREFIX + b"1.2"
    try:
        with taken(staging, file(target, b"content", mode=0o640)) as (links, *_):
            made = links.link(target, fd, b"a", b"path/a")
            again = links.link(target, fd, b"b", b"b")
    finally:
        os.close(fd)
    assert made is not None and again is not None
    assert (made.path, again.path) == (b"path/a", b"b")
    assert made._replace(path=b"") == again._replace(path=b"")
    assert (tree / "a").read_bytes() == b"content"
    assert (tree / "a").samefile(tree / "b")
    assert (tree / "a").stat().st_nlink == 2
    assert list(staging.iterdir()) == []


def test_what_is_not_there_cannot_be_linked(tmp_path: Path) -> None:
    staging, tree = tmp_path / "staging", tmp_path / "tree"
    staging.mkdir()
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with taken(staging, file(PREFIX + b"1.2", b"content")) as (links, *_):
            for target in (PREFIX + b"3.4", PREFIX, b"1.2", PREFIX + b"../1.2"):
                assert links.link(target, fd, b"a", b"a") is None
    finally:
        os.close(fd)
    assert list(tree.iterdir()) == []


def test_only_the_first_name_of_a_file_is_first(tmp_path: Path) -> None:
    target = PREFIX + b"1.2"
    with taken(tmp_path, file(target, b"old")) as (links, *_):
        assert links.first(target)
        assert not links.first(target)
        assert links.first(PREFIX + b"3.4")


def test_the_later_of_two_files_is_linked(tmp_path: Path) -> None:
    staging, tree = tmp_path / "staging", tmp_path / "tree"
    staging.mkdir()
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    target = PREFIX + b"1.2"
    try:
        with taken(staging, file(target, b"old"), file(target, b"new")) as (links, *_):
            assert links.link(target, fd, b"a", b"a") is not None
    finally:
        os.close(fd)
    assert (tree / "a").read_bytes() == b"new"
