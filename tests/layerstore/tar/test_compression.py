"""Streams packed in every way, damaged ones, and bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
from collections.abc import Callable

import pytest
import zstandard

from layerstore.errors import InvalidImage, LimitExceeded
from layerstore.limits import Limits
from layerstore.tar.compression import open_compressor, open_decompressed, sniff

Pack = Callable[[bytes], bytes]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress(data)


PACKERS: dict[str | None, Pack] = {
    "gzip": gzip.compress,
    "zstd": zstd,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    None: bytes,
}
CONTENT = random.Random(1).randbytes(300_000) + bytes(200_000)


def read(data: bytes, limits: Limits | None = None) -> bytes:
    return open_decompressed(io.BytesIO(data), limits or Limits()).readall()


@pytest.mark.parametrize("kind", PACKERS)
def test_every_kind(kind: str | None) -> None:
    packed = PACKERS[kind](CONTENT)
    assert sniff(packed[:6]) == kind
    stream = open_decompressed(io.BytesIO(packed))
    assert stream.kind == kind
    assert stream.readall() == CONTENT
    assert stream.packed == len(packed)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_several_members_in_a_row(kind: str) -> None:
    pack = PACKERS[kind]
    assert read(pack(b"one") + pack(b"") + pack(b"two") * 500) == b"one" + b"two" * 500


def test_zstd_frames_to_be_skipped() -> None:
    skip = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    assert read(skip + zstd(b"content") + skip) == b"content"


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_cut_short(kind: str) -> None:
    packed = PACKERS[kind](CONTENT)
    for size in (7, 20, len(packed) // 2, len(packed) - 1):
        with pytest.raises(InvalidImage, match=kind):
            read(packed[:size])


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_damaged(kind: str) -> None:
    packed = bytearray(PACKERS[kind](CONTENT))
    packed[len(packed) // 2] ^= 0xFF
    packed[12] ^= 0xFF
    with pytest.raises(InvalidImage, match=kind):
        read(bytes(packed))


def test_a_header_that_does_not_end() -> None:
    with pytest.raises(InvalidImage, match="gzip"):
        read(b"\x1f\x8b\x08\x08" + bytes(6) + b"name" * (1 << 20))


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f\x8b", b"PK\x03\x04 no tar"])
def test_short_and_unknown(data: bytes) -> None:
    if data == b"\x1f\x8b":
        with pytest.raises(InvalidImage):
            read(data)
    else:
        assert read(data) == data


def test_bombs() -> None:
    zeros = bytes(8 << 20)
    with pytest.raises(LimitExceeded, match="2,000 times its size"):
        read(zstd(zeros), Limits(ratio_from=1 << 20))
    assert read(gzip.compress(zeros), Limits(ratio_from=1 << 20)) == zeros
    with pytest.raises(LimitExceeded, match="which is the limit"):
        read(gzip.compress(zeros), Limits(size=1 << 20))


def test_memory_a_stream_may_ask_for() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters)
    packed = packer.compressobj()
    data = packed.compress(os.urandom(1 << 20)) + packed.flush()
    with pytest.raises(InvalidImage, match="memory"):
        read(data)
    big = lzma.compress(b"x", preset=9)
    with pytest.raises(InvalidImage, match="memory"):
        read(big, Limits(window=1 << 20))


def test_streams_that_give_little_at_a_time() -> None:
    class Slow:
        def __init__(self, data: bytes) -> None:
            self.data = io.BytesIO(data)

        def read(self, size: int) -> bytes:
            return self.data.read(min(size, 3))

    for kind, pack in PACKERS.items():
        stream = open_decompressed(Slow(pack(b"content" * 50)))
        assert (stream.kind, stream.readall()) == (kind, b"content" * 50)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_what_we_pack(kind: str) -> None:
    outs = []
    for _ in range(2):
        out = io.BytesIO()
        with open_compressor(out, kind) as packer:
            packer.write(CONTENT)
        outs.append(out.getvalue())
    assert outs[0] == outs[1], "the same content gives the same bytes"
    assert read(outs[0]) == CONTENT
