"""Archives are written whole, with what was announced in them."""

from __future__ import annotations

import io
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from layerstore.archive.writer import DirectoryWriter, TarArchiveWriter
from layerstore.errors import Conflict, StoreError
from layerstore.tar.pipeline import Writable, write_all


def text(out: Writable) -> None:
    write_all(out, memoryview(b"text"))


def test_a_tar_has_its_folders_once_and_each_name_once() -> None:
    outs = [io.BytesIO(), io.BytesIO()]
    for out in outs:
        writer = TarArchiveWriter(out)
        writer.blob("blobs/sha256/a", 4, text)
        writer.file("blobs/sha256/b", b"b")
        writer.file("blobs/sha256/a", b"not again")
        writer.end()
    assert outs[0].getvalue() == outs[1].getvalue()
    outs[0].seek(0)
    with tarfile.open(fileobj=outs[0]) as tar:
        assert tar.getnames() == ["blobs", "blobs/sha256", "blobs/sha256/a", "blobs/sha256/b"]
        found = tar.extractfile("blobs/sha256/a")
        assert found is not None and found.read() == b"text"


@pytest.mark.parametrize("size", [3, 5])
def test_a_file_of_another_size_than_announced_is_an_error(tmp_path: Path, size: int) -> None:
    with closing(DirectoryWriter(tmp_path / "layout")) as directory:
        for writer in (TarArchiveWriter(io.BytesIO()), directory):
            with pytest.raises(StoreError, match=f"4 bytes; {size} were announced"):
                writer.blob("x", size, text)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_there_once_it_is_whole(tmp_path: Path) -> None:
    with closing(DirectoryWriter(tmp_path / "layout")) as writer:
        writer.file("blobs/a", b"a")
        assert not (tmp_path / "layout").exists()
        writer.end()
    assert [path.name for path in tmp_path.iterdir()] == ["layout"]
    assert (tmp_path / "layout/blobs/a").read_bytes() == b"a"
    assert (tmp_path / "layout").stat().st_mode & 0o777 == 0o755
    with pytest.raises(Conflict, match="exists"):
        DirectoryWriter(tmp_path / "layout")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be made"):
        DirectoryWriter(tmp_path / "none" / "layout")
