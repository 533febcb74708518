"""The 512-byte headers of tar: how they are read and written.

This module alone interprets a header.  It reads ustar, the GNU extensions, PAX records with
binary values and both encodings of numbers; it writes ustar, with PAX records for the
values that do not fit.

Sans-I/O: bytes in, values out.  Source: POSIX pax(1) "pax Interchange Format",
"ustar Interchange Format"; the GNU tar manual, "Tar Internals".
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress

from layerstore.errors import InvalidImage, NotATar
from unionfs.light_typing import NamedTuple
from unionfs.types import NS

BLOCK = 512
END = bytes(BLOCK)

REGULAR, OLD_REGULAR, LINK, SYMLINK = b"0", b"\0", b"1", b"2"
CHAR, BLOCK_DEVICE, DIRECTORY, FIFO, CONTIGUOUS = b"3", b"4", b"5", b"6", b"7"
GNU_LONG_NAME, GNU_LONG_LINK, GNU_SPARSE = b"L", b"K", b"S"
GNU_DUMPDIR, GNU_LABEL = b"D", b"V"
PAX, PAX_GLOBAL, PAX_SUN = b"x", b"g", b"X"

XATTR = b"SCHILY.xattr."

# name mode uid gid size mtime chksum type linkname magic uname gname devmajor devminor prefix
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_SPARSE_ENTRIES = 4
_SPARSE_BASE = 100 - len(b"GNUSparseFile.0/")
_NAMES = (b"path", b"linkpath", b"GNU.sparse.name")
_MOST_OCTAL = {8: 0o7777777, 12: 0o77777777777}
_ADLER_MODULUS = 65521


class Header:
    """The fields of one header block, before an extended header is applied."""

    __slots__ = (
        "gid",
        "kind",
        "linkname",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "size",
        "uid",
    )

    def __init__(self, block: bytes) -> None:
        (
            name,
            mode,
            uid,
            gid,
            size,
            mtime,
            chksum,
            self.kind,
            linkname,
            magic,
            _,
            _,
            major,
            minor,
            prefix,
        ) = _FIELDS.unpack(block)
        _check_sum(block, chksum)
        self.name = name = name.partition(b"\0")[0]
        self.mode = read_number(mode) & 0o7777
        self.uid = read_number(uid)
        self.gid = read_number(gid)
        self.size = read_number(size)
        self.mtime_ns = read_number(mtime) * NS
        self.linkname = linkname.partition(b"\0")[0]
        self.major = self.minor = 0
        if magic[:5] == b"ustar":
            if self.kind in (CHAR, BLOCK_DEVICE):
                self.major, self.minor = read_number(major), read_number(minor)
            # GNU's own format has other fields at the place of the POSIX prefix.
            if prefix[0] and magic == b"ustar\x0000":
                self.name = prefix.partition(b"\0")[0] + b"/" + name


def _check_sum(block: bytes, field: bytes) -> None:
    """Raise NotATar unless the checksum of the header is right.

    The sum is taken from Adler-32, whose low half is one plus the sum of the
    bytes modulo 65521, and which is fifteen times faster than `sum`.
    """
    wanted = -1
    with suppress(InvalidImage):
        wanted = read_number(field)
    blank = 8 * 0x20 - sum(field)
    if ((zlib.adler32(block) & 0xFFFF) - 1 + blank - wanted) % _ADLER_MODULUS == 0:
        return
    # Some old tars add signed bytes.
    if sum(byte - 256 if byte > 127 else byte for byte in block) + blank == wanted:
        return
    raise NotATar("the archive is damaged, or no tar archive: a header has the wrong checksum")


@functools.lru_cache(maxsize=4096)
def read_number(field: bytes) -> int:
    """Return a number in octal, or in GNU's base 256; raises InvalidImage.

    Results are cached, because most fields of a header equal those of the one before.
    """
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = len(field) * 8
        if field[0] & 0x40:
            return value - (1 << bits)  # negative, in two's complement
        return value & ~(1 << (bits - 1))
    # Octal digits end at the first NUL; the bytes after it have no meaning.
    text = field.lstrip(b" \0").partition(b"\0")[0].rstrip(b" ")
    if not text:
        return 0
    try:
        if text.isdigit():  # int() takes signs and underscores too
            return int(text, 8)
    except ValueError:
        pass
    raise InvalidImage(f"the archive is damaged: {field!r} in a header is not a number")


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Return the records of a PAX header; repeated GNU.sparse.* pairs are joined by commas.

    Raises InvalidImage.
    """
    records: dict[bytes, bytes] = {}
    numbers: list[bytes] = []
    at, end = 0, len(data)
    while at < end and data[at]:  # some writers pad with NULs
        space = data.find(b" ", at, at + 21)
        digits = data[at:space] if space > at else b""
        if not digits.isdigit():
            raise InvalidImage("the archive is damaged: a PAX record has no length")
        stop = at + int(digits)
        equals = data.find(b"=", space, stop)
        if stop > end or equals < 0 or data[stop - 1 : stop] != b"\n":
            raise InvalidImage("the archive is damaged: a PAX record does not end where it says")
        key, value = data[space + 1 : equals], data[equals + 1 : stop - 1]
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            numbers.append(value)
        else:
            records[key] = value
        at = stop
    if numbers:
        # Sparse format 0.0 repeats the pair; it is returned as the one record of format 0.1.
        records[b"GNU.sparse.map"] = b",".join(numbers)
    return records


def pax_number(value: bytes, what: str) -> int:
    """Return the decimal integer in a PAX record; raises InvalidImage."""
    if not value.removeprefix(b"-").isdigit() or len(value) > 21:
        raise InvalidImage(f"the archive is damaged: its PAX {what} {value[:40]!r} is no number")
    return int(value)


def pax_time_ns(value: bytes) -> int:
    """Return a PAX time, decimal seconds with a fraction, in ns; raises InvalidImage."""
    negative = value.startswith(b"-")
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    digits = fraction[:9].ljust(9, b"0")
    if not (whole or b"0").isdigit() or not digits.isdigit() or len(whole) > 20:
        raise InvalidImage(f"the archive is damaged: its PAX time {value[:40]!r} is no number")
    ns = int(whole or b"0") * NS + int(digits)
    return -ns if negative else ns


def old_sparse_map(block: bytes, extension: bool) -> tuple[list[tuple[int, int]], bool, int]:
    """Return the (offset, size) pairs of an old GNU sparse header or of its extension block.

    Also whether an extension follows, and the real size (of a header only).
    """
    at, count, flag = (0, 21, 504) if extension else (386, _SPARSE_ENTRIES, 482)
    pairs = []
    for index in range(count):
        entry = block[at + 24 * index : at + 24 * index + 24]
        if not entry[0]:
            break
        pairs.append((read_number(entry[:12]), read_number(entry[12:])))
    real_size = 0 if extension else read_number(block[483:495])
    return pairs, block[flag] != 0, real_size


def padding(size: int) -> int:
    """Return how many bytes of padding follow `size` bytes of content."""
    return -size % BLOCK


# -- writing --


class NewEntry(NamedTuple):
    """An entry to be written: `size` is in bytes, `device` the major and the minor number.

    A sparse file of `sparse_size` bytes, holes included, is stored in `size` bytes: its
    `format_sparse_map` and its data.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    linkname: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Iterable[tuple[bytes, bytes]] = ()
    sparse_size: int | None = None


def format_entry(entry: NewEntry) -> bytes:
    """Return the header of an entry, with a PAX header before it if one is needed.

    The same values give the same bytes on every machine: there are no names of users and no
    times except the entry's own, and PAX records are sorted.
    """
    name, _, _, uid, gid, size, mtime_ns, linkname, _, xattrs, sparse_size = entry
    records = {XATTR + key: value for key, value in xattrs}
    if sparse_size is not None:
        records |= _sparse_records(name, sparse_size)
        # A program that does not know the sparse format shows this name.  A record `path`
        # would hide the real name in Python's tarfile.
        name = b"GNUSparseFile.0/" + name.rpartition(b"/")[2][:_SPARSE_BASE]
    short, prefix = _split_name(name, records)
    if len(linkname) > 100:
        records[b"linkpath"] = linkname
        linkname = linkname[:100]
    for key, value, width in ((b"uid", uid, 8), (b"gid", gid, 8), (b"size", size, 12)):
        if not 0 <= value <= _MOST_OCTAL[width]:
            records[key] = b"%d" % value
    seconds, ns = divmod(mtime_ns, NS)
    if ns or not 0 <= seconds <= _MOST_OCTAL[12]:
        records[b"mtime"] = _decimal_seconds(mtime_ns)
    header = _block(entry, short, prefix, linkname, seconds)
    return _format_pax(name, records) + header if records else header


def _sparse_records(name: bytes, size: int) -> dict[bytes, bytes]:
    return {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": name,
        b"GNU.sparse.realsize": b"%d" % size,
    }


def format_sparse_map(ranges: Sequence[tuple[int, int]], size: int) -> bytes:
    """Return the map before the data of a sparse file of `size` bytes, in whole blocks.

    `ranges` are the (start, end) of its data.  Source: the GNU tar manual, "PAX Format 1".
    """
    pairs = [(start, end - start) for start, end in ranges]
    if not pairs or sum(pairs[-1]) < size:
        pairs.append((size, 0))  # the hole at the end
    text = b"%d\n" % len(pairs) + b"".join(b"%d\n%d\n" % pair for pair in pairs)
    return text + bytes(padding(len(text)))


def _split_name(name: bytes, records: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return the name and prefix fields for `name`; if they are too short, PAX has the name."""
    if len(name) <= 100:
        return name, b""
    # The prefix ends at a slash with 1 to 100 bytes after it, a trailing slash not counted.
    cut = name.find(b"/", len(name) - 101, len(name) - 1)
    if 0 < cut <= 155:
        return name[cut + 1 :], name[:cut]
    records[b"path"] = name
    return name[:100], b""


def _decimal_seconds(ns: int) -> bytes:
    sign = b"-" if ns < 0 else b""
    seconds, fraction = divmod(abs(ns), NS)
    return sign + (b"%d.%09d" % (seconds, fraction)).rstrip(b"0").rstrip(b".")


def _format_pax(name: bytes, records: dict[bytes, bytes]) -> bytes:
    if not all(_is_utf8(records.get(key, b"")) for key in _NAMES):
        records[b"hdrcharset"] = b"BINARY"
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    base = name.rstrip(b"/").rpartition(b"/")[2][: 100 - len(b"PaxHeaders.0/")]
    entry = NewEntry(b"PaxHeaders.0/" + base, PAX, 0o644, size=len(body))
    header = _block(entry, entry.name, b"", b"", 0)
    return header + body + bytes(padding(len(body)))


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3  # space, equals sign, newline
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@functools.lru_cache(maxsize=4096)
def _octal(value: int, width: int) -> bytes:
    if not 0 <= value <= _MOST_OCTAL[width]:
        value = 0  # the PAX record has it
    return b"%0*o\0" % (width - 1, value)


def _block(entry: NewEntry, name: bytes, prefix: bytes, linkname: bytes, seconds: int) -> bytes:
    """Return the block of `entry`, with the part of its names and times that has room there."""
    block = _FIELDS.pack(
        name,
        _octal(entry.mode, 8),
        _octal(entry.uid, 8),
        _octal(entry.gid, 8),
        _octal(entry.size, 12),
        _octal(seconds, 12),
        b" " * 8,
        entry.kind,
        linkname,
        b"ustar\x0000",
        b"",
        b"",
        _octal(entry.device[0], 8),
        _octal(entry.device[1], 8),
        prefix,
    )
    return b"%b%06o\0 %b" % (block[:148], sum(block), block[156:])
