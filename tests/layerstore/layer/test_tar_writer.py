"""Our own archives: the same entries give the same bytes, holes are zeros."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
import xxhash

from layerstore.errors import StoreError
from layerstore.layer.index import digest_file
from layerstore.layer.tar_writer import TarWriter
from layerstore.tar.headers import REGULAR, NewEntry, format_entry
from layerstore.tar.pipeline import Sink


def written(path: Path, size: int | None = None) -> tuple[bytes, str]:
    fd = os.open(path, os.O_RDONLY)
    try:
        st = os.fstat(fd)
        size = st.st_size if size is None else size
        out = io.BytesIO()
        with Sink(out) as sink:
            tar = TarWriter(sink)
            tar.header(format_entry(NewEntry(name=b"f", kind=REGULAR, mode=0o644, size=size)))
            digest = tar.content(fd, b"f", size, st.st_blocks, shown=False)
            tar.end()
            sink.finish()
            assert tar.entries == 1
        return out.getvalue(), digest
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1 << 16, (1 << 20) + 1, 3 << 20])
def test_content_comes_back_with_its_digest(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    archive, digest = written(tmp_path / "f")
    assert digest == xxhash.xxh3_128_hexdigest(data)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = tar.extractfile("f")
        assert found is not None and found.read() == data


def test_a_hole_is_written_as_the_zeros_it_stands_for(tmp_path: Path) -> None:
    data = bytes(1 << 20) + b"middle" + bytes(2 << 20)
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate(len(data))
    (tmp_path / "plain").write_bytes(data)
    assert written(tmp_path / "sparse") == written(tmp_path / "plain")
    assert written(tmp_path / "plain")[1] == digest_file(os.fsencode(tmp_path / "plain"))


def test_a_file_of_one_block_of_zeros_has_the_digest_of_its_kind(tmp_path: Path) -> None:
    """It fits into one buffer of the stream, so it is hashed in one call."""
    (tmp_path / "f").write_bytes(bytes(1 << 20))
    assert written(tmp_path / "f")[1] == digest_file(os.fsencode(tmp_path / "f"))


@pytest.mark.parametrize("size", [100, 1 << 21])
def test_a_file_that_became_shorter_is_an_error(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"short")
    with pytest.raises(StoreError, match="became shorter"):
        written(tmp_path / "f", size)
