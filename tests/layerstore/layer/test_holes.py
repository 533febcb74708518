"""Holes count as zeros, and are neither read nor hashed."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from layerstore.layer.holes import HOLES, ContentHasher, data_ranges, digest_fd
from layerstore.layer.index import digest_file
from tests.helpers.reads import Reads

MIB = 1 << 20


def sparse(path: Path, size: int, pieces: dict[int, bytes]) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
    for offset, data in pieces.items():
        os.pwrite(fd, data, offset)
    return fd


def by_the_rule(content: bytes) -> str:
    """Return the digest of `content` as docs/on-disk.md defines it."""
    rest, runs = b"", b""
    first = None
    for block in range(-(-len(content) // MIB) + 1):
        part = content[block * MIB : (block + 1) * MIB]
        empty = part == bytes(MIB)
        if empty and first is None:
            first = block
        if not empty and first is not None:
            runs += struct.pack("<QQ", first, block)
            first = None
        rest += b"" if empty else part
    if not runs:
        return xxhash.xxh3_128_hexdigest(content)
    return "holes:" + xxhash.xxh3_128_hexdigest(rest + xxhash.xxh3_128_digest(runs))


CONTENTS = [
    {},
    {0: b"head"},
    {3 * MIB: b"middle" * 1000},
    {0: b"a" * 5000, 2 * MIB + 5: b"b", 8 * MIB - 3: b"end"},
    {MIB - 1: b"x", 4 * MIB: b"y", 8 * MIB + 4: b"end"},
    {at * MIB: b"no block is empty" for at in range(9)},
]


@pytest.mark.parametrize("pieces", CONTENTS)
def test_the_digest_is_that_of_the_rule(tmp_path: Path, pieces: dict[int, bytes]) -> None:
    fd = sparse(tmp_path / "f", 8 * MIB + 7, pieces)
    try:
        content = (tmp_path / "f").read_bytes()
        assert digest_fd(fd) == by_the_rule(content)
        assert digest_fd(fd).startswith(HOLES) == (len(pieces) < 9)
        assert digest_fd(fd, holes=False) == xxhash.xxh3_128_hexdigest(content)
        at = 0
        for start, end in data_ranges(fd, len(content)):
            assert at <= start < end
            assert not any(content[at:start])
            at = end
        assert not any(content[at:])
        later = [range_ for range_ in data_ranges(fd, len(content), MIB // 2) if range_[1] > MIB]
        assert later == [range_ for range_ in data_ranges(fd, len(content)) if range_[1] > MIB]
    finally:
        os.close(fd)


@given(st.data())
def test_the_digest_is_of_the_content_in_whatever_pieces_it_comes(data: st.DataObject) -> None:
    some = st.sampled_from([0, 1, 4096, MIB // 2, MIB - 1, MIB, MIB + 1, 3 * MIB])
    parts = data.draw(st.lists(st.tuples(st.booleans(), some), max_size=8))
    content = b"".join((b"\0" if zeros else b"x") * size for zeros, size in parts)
    told, cut = ContentHasher(), ContentHasher()
    for zeros, size in parts:
        if zeros:
            told.zeros(size)
        else:
            told.update(memoryview(b"x" * size))
    view = memoryview(content)
    while view:
        size = data.draw(some) or len(view)
        cut.update(view[:size])
        view = view[size:]
    assert told.digest() == cut.digest() == by_the_rule(content)


def test_the_place_of_a_hole_counts(tmp_path: Path) -> None:
    places = [{at * MIB: b"x" * MIB} for at in range(4)]
    fds = [sparse(tmp_path / str(at), 4 * MIB, pieces) for at, pieces in enumerate(places)]
    try:
        assert len({digest_fd(fd) for fd in fds}) == 4
    finally:
        for fd in fds:
            os.close(fd)


def test_a_stored_zero_and_a_hole_are_the_same(tmp_path: Path) -> None:
    one = sparse(tmp_path / "a", 2 * MIB + 1, {})
    other = sparse(tmp_path / "b", 2 * MIB + 1, {0: bytes(2 * MIB + 1)})
    try:
        assert os.fstat(one).st_blocks < os.fstat(other).st_blocks
        assert digest_fd(one) == digest_fd(other)
    finally:
        os.close(one)
        os.close(other)


def test_a_hole_costs_nothing(tmp_path: Path) -> None:
    """Before, 4 TiB took 90 s of a processor."""
    fd = sparse(tmp_path / "f", 4 << 40, {3 << 40: b"x"})
    began = time.process_time()
    try:
        digest_fd(fd)
    finally:
        os.close(fd)
    assert time.process_time() - began < 5


def test_a_hole_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = sparse(tmp_path / "f", 4096 * MIB, {0: b"x" * 4096, 3000 * MIB: b"y" * 4096})
    reads = Reads(monkeypatch)
    try:
        digest_fd(fd)
    finally:
        os.close(fd)
    assert reads.size <= MIB


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_what_took_the_place_of_a_file_is_an_error_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    began = time.monotonic()
    with pytest.raises(OSError):
        digest_file(os.fsencode(path))
    assert time.monotonic() - began < 10
