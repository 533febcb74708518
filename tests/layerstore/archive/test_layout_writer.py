"""An image comes into a layout that exists; what was there stays."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import closing
from pathlib import Path

import pytest

from layerstore.archive.layout_writer import LayoutWriter
from layerstore.errors import Conflict, InvalidImage, StoreError
from layerstore.tar.pipeline import Writable, write_all


def text(out: Writable) -> None:
    write_all(out, memoryview(b"text"))


def forbidden(out: Writable) -> None:
    raise AssertionError("it is there")


def fill(layout: Path) -> None:
    with closing(LayoutWriter(layout)) as writer:
        writer.blob("blobs/sha256/a", 4, text)
        writer.file("index.json", b"{}")
        writer.end()


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    made = tmp_path / "layout"
    made.mkdir()
    return made


def test_an_empty_directory_becomes_a_layout(layout: Path) -> None:
    with closing(LayoutWriter(layout)) as writer:
        assert writer.index is None
    fill(layout)
    assert sorted(path.name for path in layout.rglob("*") if path.is_file()) == [
        "a",
        "index.json",
        "oci-layout",
    ]
    assert (layout / "blobs/sha256/a").read_bytes() == b"text"


def test_what_is_there_stays_and_the_index_is_replaced(layout: Path) -> None:
    fill(layout)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.1.0"}')
    with closing(LayoutWriter(layout)) as writer:
        assert writer.index == b"{}"
        writer.blob("blobs/sha256/a", 4, forbidden)
        writer.file("oci-layout", b"other")
        writer.file("index.json", b"new")
    assert (layout / "index.json").read_bytes() == b"new"
    assert b"1.1.0" in (layout / "oci-layout").read_bytes()


@pytest.mark.parametrize("part", ["cut", "link"])
def test_a_blob_that_is_not_whole_or_a_link_is_replaced(layout: Path, part: str) -> None:
    fill(layout)
    blob, outside = layout / "blobs/sha256/a", layout.parent / "outside"
    outside.write_bytes(b"text")
    blob.unlink()
    if part == "link":
        blob.symlink_to(outside)
    else:
        blob.write_bytes(b"te")
    with closing(LayoutWriter(layout)) as writer:
        writer.blob("blobs/sha256/a", 4, text)
    assert not blob.is_symlink() and blob.read_bytes() == outside.read_bytes() == b"text"


def test_a_directory_that_is_a_link_is_not_followed(layout: Path) -> None:
    fill(layout)
    os.rename(layout / "blobs", layout.parent / "outside")
    (layout / "blobs").symlink_to(layout.parent / "outside")
    with (
        closing(LayoutWriter(layout)) as writer,
        pytest.raises(StoreError, match="blobs/sha256/b cannot be written: Not a directory"),
    ):
        writer.blob("blobs/sha256/b", 4, text)
    assert os.listdir(layout.parent / "outside/sha256") == ["a"]


def test_a_failure_leaves_no_part_of_a_file(layout: Path) -> None:
    fill(layout)
    with closing(LayoutWriter(layout)) as writer, pytest.raises(StoreError, match="announced"):
        writer.blob("blobs/sha256/b", 5, text)
    assert os.listdir(layout / "blobs/sha256") == ["a"]


def test_what_is_no_layout_is_refused(layout: Path) -> None:
    (layout / "file").touch()
    with pytest.raises(Conflict, match="exists and is no OCI layout"):
        LayoutWriter(layout)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(InvalidImage, match="unknown version"):
        LayoutWriter(layout)
    with pytest.raises(StoreError, match="file cannot be written"):
        LayoutWriter(layout / "file")


def test_a_second_writer_waits_for_the_first(layout: Path) -> None:
    seen: list[bytes | None] = []

    def second() -> None:
        with closing(LayoutWriter(layout)) as writer:
            seen.append(writer.index)

    first = LayoutWriter(layout)
    thread = threading.Thread(target=second)
    thread.start()
    first.file("index.json", b"first")
    first.close()
    thread.join()
    assert seen == [b"first"]
    fd = os.open(layout, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody has it any more
    os.close(fd)
