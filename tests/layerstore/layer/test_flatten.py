"""The flat tar of a merged tree, and a tar that is read while it is written."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from layerstore.errors import StoreError
from layerstore.layer.flatten import PackStream, write_flat_tar
from layerstore.tar.pipeline import Writable, write_all
from tests.helpers.unions import fill


def test_all_layers_show_as_one_tree(tmp_path: Path) -> None:
    top, base = tmp_path / "top", tmp_path / "base"
    for path in (top, base):
        path.mkdir()
    fill(base, {"d": {"a": "old", "b": "b"}})
    fill(top, {"d": {"a": "new"}, "e": "e"})
    out = io.BytesIO()
    packed = write_flat_tar([top, base], out)
    assert packed.size == 5
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        found = {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]
    assert found == {"d/a": b"new", "d/b": b"b", "e": b"e"}


def test_what_is_written_is_read_meanwhile() -> None:
    def write(out: Writable) -> None:
        for number in range(100):
            write_all(out, memoryview(b"%03d" % number * 50))

    with PackStream(write) as stream:
        assert stream.readall() == b"".join(b"%03d" % number * 50 for number in range(100))


def test_an_error_of_the_writer_is_the_readers() -> None:
    def write(out: Writable) -> None:
        write_all(out, memoryview(b"some"))
        raise StoreError("the layer is damaged")

    with PackStream(write) as stream, pytest.raises(StoreError, match="damaged"):
        stream.readall()


def test_closing_ends_a_writer_that_is_not_done() -> None:
    ended = []

    def write(out: Writable) -> None:
        try:
            while True:
                write_all(out, memoryview(bytes(1000)))
        finally:
            ended.append(True)

    stream = PackStream(write)
    assert stream.read(10) == bytes(10)
    stream.close()
    assert ended == [True]
