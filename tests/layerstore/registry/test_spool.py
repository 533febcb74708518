"""A blob on its way: what the reader sees, and what becomes of an earlier download."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore.db.partial import PartialBlobs
from layerstore.errors import DigestMismatch, SizeMismatch
from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import Descriptor
from layerstore.registry.spool import Fetch, Spool
from tests.helpers.registries import MemoryBody

DATA = os.urandom(3_000_000)
BLOB = Descriptor("tar", sha256_digest(DATA), len(DATA))


@pytest.fixture
def partial(tmp_path: Path) -> PartialBlobs:
    return PartialBlobs(tmp_path / "partial")


@pytest.fixture
def spool() -> Iterator[Spool]:
    with Spool() as made:
        yield made


def fetch(
    partial: PartialBlobs, spool: Spool, data: bytes = DATA, *, ranges: bool = True
) -> list[int]:
    """Fetch the blob of a registry that sends `data`; return the offsets that were asked for."""
    asked: list[int] = []

    @contextmanager
    def open_body(offset: int) -> Iterator[MemoryBody]:
        asked.append(offset)
        yield MemoryBody(data, offset if ranges else 0, None, 700_000)

    with partial.claim(BLOB.digest, lambda: None) as mine:
        Fetch(mine, BLOB, spool, lambda done: None, lambda: None).run(open_body)
        spool.end()
    return asked


def leave(partial: PartialBlobs, data: bytes) -> None:
    with partial.claim(BLOB.digest, lambda: None) as mine:
        os.write(mine.fd, data)


def test_the_reader_follows_the_writer(partial: PartialBlobs, spool: Spool) -> None:
    seen: list[bytes] = []
    thread = threading.Thread(target=lambda: seen.append(spool.readall() or b""))
    thread.start()
    assert fetch(partial, spool) == [0]
    thread.join(30)
    assert seen == [DATA]


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("size", [1, 1_000_000, len(DATA) - 1])
def test_only_the_rest_is_fetched(
    partial: PartialBlobs, spool: Spool, size: int, ranges: bool
) -> None:
    leave(partial, DATA[:size])
    assert fetch(partial, spool, ranges=ranges) == [size]
    assert spool.readall() == DATA


def test_a_whole_download_is_hashed_and_not_fetched(partial: PartialBlobs, spool: Spool) -> None:
    leave(partial, DATA)
    assert fetch(partial, spool) == [] and spool.readall() == DATA


@pytest.mark.parametrize(
    ("remains", "asked"),
    [(b"x" * 1000, [1000, 0]), (b"x" * len(DATA), [0]), (DATA + b"x", [0])],
    ids=["begun", "whole", "longer"],
)
def test_wrong_remains_are_never_seen(
    partial: PartialBlobs, spool: Spool, remains: bytes, asked: list[int]
) -> None:
    leave(partial, remains)
    assert fetch(partial, spool) == asked and spool.readall() == DATA


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (DATA[:-1], SizeMismatch),
        (DATA + b"x", SizeMismatch),
        (DATA[:-1] + bytes([DATA[-1] ^ 1]), DigestMismatch),
    ],
    ids=["short", "long", "other"],
)
def test_what_is_not_the_blob_leaves_nothing(
    partial: PartialBlobs, spool: Spool, data: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        fetch(partial, spool, data)
    with partial.claim(BLOB.digest, lambda: None) as mine:
        assert mine.size() == 0


def test_the_reader_raises_what_the_writer_failed_with(spool: Spool) -> None:
    spool.fail(SizeMismatch("first"))
    spool.fail(ValueError("second"))
    with pytest.raises(SizeMismatch, match="first"):
        spool.read(1)
    with pytest.raises(SizeMismatch, match="first"):
        spool.whole()
