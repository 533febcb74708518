"""What is copied to disk before it is read, and what is not."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest

from layerstore.archive.spool import plain_file
from layerstore.errors import LimitExceeded, NotATar
from layerstore.limits import Limits
from tests.layerstore.archives import file, whole

TAR = whole(file(b"a", b"content"))


class Zeros:
    """A stream of zeros behind `head` that counts what is read of it."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head, self.left, self.count = head, size, 0

    def read(self, size: int) -> bytes:
        data, self.head = self.head[:size], self.head[size:]
        if not data:
            data = bytes(min(size, self.left))
            self.left -= len(data)
        self.count += len(data)
        return data


def test_a_plain_file_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(TAR)
    with (
        (tmp_path / "a.tar").open("rb", buffering=0) as stream,
        plain_file(stream, tmp_path / "no-spool") as plain,
    ):
        assert os.path.samestat(os.fstat(plain.fileno()), os.fstat(stream.fileno()))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_stream_is_copied(tmp_path: Path, pack: object) -> None:
    data = gzip.compress(TAR) if pack is gzip.compress else TAR
    with plain_file(io.BytesIO(data), tmp_path) as plain:
        assert plain.read() == TAR
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_midst_is_a_stream(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 100 + TAR)
    with (tmp_path / "a.tar").open("rb", buffering=0) as stream:
        assert stream.seek(100) == 100
        with plain_file(stream, tmp_path) as plain:
            assert os.pread(plain.fileno(), len(TAR), 0) == TAR


@pytest.mark.parametrize("head", [b"no tar at all" * 40, b"\0" * 511 + b"x", b"short"])
def test_what_is_no_tar_is_not_copied(tmp_path: Path, head: bytes) -> None:
    stream = Zeros(head, 0 if head == b"short" else 1 << 40)
    with pytest.raises(NotATar, match="this is no tar archive of images"):
        plain_file(stream, tmp_path)
    assert stream.count <= 1024


def test_nothing_behind_the_end_is_read(tmp_path: Path) -> None:
    stream = Zeros(bytes(512), 1 << 40)
    with plain_file(stream, tmp_path) as plain:
        assert os.fstat(plain.fileno()).st_size == 512
    assert stream.count <= 2048


def test_zeros_take_no_room(tmp_path: Path) -> None:
    size = 32 << 20
    tail = b"tail"
    stream = io.BytesIO(gzip.compress(file(b"a", b"")[:512] + bytes(size) + tail, 1))
    with plain_file(stream, tmp_path) as plain:
        found = os.fstat(plain.fileno())
        assert found.st_size == 512 + size + len(tail)
        assert found.st_blocks * 512 <= 1 << 20
        assert os.pread(plain.fileno(), 100, 512 + size - 1) == b"\0tail"


def test_the_limits_hold_while_it_is_copied(tmp_path: Path) -> None:
    stream = Zeros(TAR[:1024], 1 << 40)
    with pytest.raises(LimitExceeded):
        plain_file(stream, tmp_path, Limits(size=1 << 20))
