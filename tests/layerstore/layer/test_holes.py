"""Holes count as zeros, and are not read."""

import os
import time
from pathlib import Path

import pytest
import xxhash

from layerstore.layer.holes import data_ranges, digest_fd, hash_zeros
from layerstore.layer.index import digest_file

MIB = 1 << 20


def sparse(path: Path, size: int, pieces: dict[int, bytes]) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
    for offset, data in pieces.items():
        os.pwrite(fd, data, offset)
    return fd


@pytest.mark.parametrize(
    "pieces",
    [
        {},
        {0: b"head"},
        {3 * MIB: b"middle" * 1000},
        {0: b"a" * 5000, 2 * MIB + 5: b"b", 8 * MIB - 3: b"end"},
    ],
)
def test_the_digest_is_that_of_the_whole_content(tmp_path: Path, pieces: dict[int, bytes]) -> None:
    fd = sparse(tmp_path / "f", 8 * MIB, pieces)
    try:
        content = (tmp_path / "f").read_bytes()
        assert digest_fd(fd) == xxhash.xxh3_128_hexdigest(content)
        at = 0
        for start, end in data_ranges(fd, 8 * MIB):
            assert at <= start < end
            assert not any(content[at:start])
            at = end
        assert not any(content[at:])
    finally:
        os.close(fd)


def test_a_stored_zero_and_a_hole_are_the_same(tmp_path: Path) -> None:
    one, other = sparse(tmp_path / "a", MIB, {}), sparse(tmp_path / "b", MIB, {0: bytes(MIB)})
    try:
        assert os.fstat(one).st_blocks < os.fstat(other).st_blocks
        assert digest_fd(one) == digest_fd(other)
    finally:
        os.close(one)
        os.close(other)


def test_a_hole_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = sparse(tmp_path / "f", 4096 * MIB, {0: b"x" * 4096, 3000 * MIB: b"y" * 4096})
    read = 0
    preadv = os.preadv

    def counted(fd: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read
        size = preadv(fd, buffers, offset)
        read += size
        return size

    monkeypatch.setattr(os, "preadv", counted)
    try:
        digest_fd(fd)
    finally:
        os.close(fd)
    assert read <= MIB


def test_zeros_are_hashed_as_zeros() -> None:
    hasher = xxhash.xxh3_128(b"a")
    hash_zeros(hasher, 3 * MIB + 7)
    assert hasher.hexdigest() == xxhash.xxh3_128_hexdigest(b"a" + bytes(3 * MIB + 7))


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
