"""The checksum that tar-split has of each file, held against its definition bit by bit."""

from __future__ import annotations

import random

from layerstore.layer.crc64 import crc64

_ONES = (1 << 64) - 1


def _by_definition(data: bytes) -> int:
    value = _ONES
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xD8 << 56 if value & 1 else 0)
    return value ^ _ONES


def test_the_check_value() -> None:
    """As the catalogue of CRC algorithms has it for CRC-64/GO-ISO."""
    assert crc64(b"123456789") == 0xB90956C775A41001
    assert crc64(b"") == 0


def test_every_length_in_one_piece_and_in_two() -> None:
    seeded = random.Random(64)
    for size in (*range(140), 1023, 1024, 1025, 5000):
        data = seeded.randbytes(size)
        cut = seeded.randint(0, size)
        wanted = _by_definition(data)
        assert crc64(data) == wanted, size
        assert crc64(data[cut:], crc64(data[:cut])) == wanted, (size, cut)
