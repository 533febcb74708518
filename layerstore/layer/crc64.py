"""CRC-64/GO-ISO, by which tar-split compares files, at the speed of long integers.

The polynomial, x^64 + x^4 + x^3 + x + 1, is so sparse that x^(64 s) is x^(4 s) + x^(3 s) +
x^s + 1 for every power s of 2.  So half of a long message is folded onto its other half by a few
shifts.  Bit i of the integer is the coefficient of x^(n - 1 - i) if there are n bits.

Source: Go hash/crc64 (ISO); vbatts/tar-split tar/storage/getter.go:CRCTable.
"""

from __future__ import annotations

_ONES = (1 << 64) - 1


def crc64(data: bytes | memoryview, before: int = 0) -> int:
    """Return the checksum of `data`; `before` is that of what comes before it."""
    value = int.from_bytes(data, "little") ^ before ^ _ONES
    bits = 8 * len(data) + 64  # of the message and the 64 zeros that follow it
    while bits > 64:
        power = 1 << (((bits - 1) // 64).bit_length() - 1)
        fold = min(bits - 64 * power, 60 * power)
        first = value & ((1 << fold) - 1)
        folded = first ^ first << power ^ first << 3 * power ^ first << 4 * power
        value = value >> fold ^ folded << 60 * power - fold
        bits -= fold
    return value ^ _ONES
