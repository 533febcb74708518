"""Headers as other programs write and read them, and ours as others read them."""

from __future__ import annotations

import io
import tarfile

import pytest

from layerstore.errors import InvalidImage
from layerstore.tar.headers import (
    Header,
    NewEntry,
    format_entry,
    format_sparse_map,
    parse_pax,
    pax_time_ns,
    read_number,
)
from tests.layerstore.archives import END, header, record, with_sum


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"644\0    ", 0o644),
        (b"\0" * 8, 0),
        (b"77777777", 0o77777777),
        (b"12\x00garb", 0o12),
        (b"\x80" + (1 << 40).to_bytes(11, "big"), 1 << 40),
        (b"\xff" * 12, -1),
        (b"\xff" * 7 + b"\xfe", -2),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    assert read_number(field) == value


@pytest.mark.parametrize("field", [b"9       ", b"0x12\0   ", b"-1      "])
def test_what_is_no_number(field: bytes) -> None:
    with pytest.raises(InvalidImage):
        read_number(field)


def test_sums_of_signed_bytes_are_accepted() -> None:
    block = header(b"\xff\xfe name")
    blank = block[:148] + b" " * 8 + block[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in blank)
    assert Header(block[:148] + b"%06o\0 " % signed + block[156:]).name == b"\xff\xfe name"


def test_prefix_only_in_posix_headers() -> None:
    assert Header(header(b"name", prefix=b"some/where")).name == b"some/where/name"
    gnu = bytearray(header(b"name", magic=b"ustar  \0"))
    gnu[345:357] = b"%011o\0" % 1234  # where GNU keeps the atime
    assert Header(with_sum(bytes(gnu))).name == b"name"


def test_pax_values_are_bytes() -> None:
    assert parse_pax(record(b"k", b"\0\xff=\n") + record(b"b", b"")) == {
        b"k": b"\0\xff=\n",
        b"b": b"",
    }


@pytest.mark.parametrize(
    "data", [b"5 a=b\n", b"99 a=b\n", b"x a=b\n", b"6 abc\n", b" 6 a=b\n", b"-1 a=b\n", b"0 a=b\n"]
)
def test_damaged_pax(data: bytes) -> None:
    with pytest.raises(InvalidImage):
        parse_pax(data)


def test_times() -> None:
    assert pax_time_ns(b"1.5") == 1_500_000_000
    assert pax_time_ns(b"-0.000000001") == -1
    assert pax_time_ns(b"3.1234567899999") == 3_123_456_789


@pytest.mark.parametrize(
    "name",
    ["a", "d/" * 60 + "file", "x" * 101, "d" * 150 + "/" + "f" * 90, "é" * 80, "\udcff" * 99],
)
@pytest.mark.parametrize("mtime_ns", [0, 1, 1_700_000_000_123_456_789, -5_500_000_000])
def test_others_read_what_we_write(name: str, mtime_ns: int) -> None:
    raw = name.encode("utf-8", "surrogateescape")
    block = format_entry(
        NewEntry(
            name=raw,
            kind=b"2",
            mode=0o4755,
            uid=10_000_000,
            gid=7,
            mtime_ns=mtime_ns,
            linkname=b"t" * 300,
            xattrs=[(b"user.x", b"1")],
        )
    )
    with tarfile.open(fileobj=io.BytesIO(block + END), errors="surrogateescape") as tar:
        (member,) = tar.getmembers()
    assert member.name == name
    assert (member.uid, member.gid, member.mode) == (10_000_000, 7, 0o4755)
    assert member.linkname == "t" * 300
    assert member.mtime == pytest.approx(mtime_ns / 1e9)
    assert member.pax_headers["SCHILY.xattr.user.x"] == "1"


def test_no_pax_where_none_is_needed() -> None:
    assert len(format_entry(NewEntry(b"a" * 100, b"0", 0o644, mtime_ns=10**9))) == 512
    assert len(format_entry(NewEntry(b"d/" * 70 + b"f", b"0", 0o644))) == 512


@pytest.mark.parametrize(
    ("ranges", "size", "text"),
    [
        ([(0, 5)], 5, b"1\n0\n5\n"),
        ([(0, 5), (10, 12)], 20, b"3\n0\n5\n10\n2\n20\n0\n"),
        ([], 7, b"1\n7\n0\n"),
    ],
)
def test_a_sparse_map_ends_where_the_file_does(
    ranges: list[tuple[int, int]], size: int, text: bytes
) -> None:
    assert format_sparse_map(ranges, size) == text.ljust(512, b"\0")
