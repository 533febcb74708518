"""Compressed streams: how their kind is found, how they are read and written.

This module alone decides which compressions are read (gzip, zstd, xz, bzip2, recognised by
their first bytes and never by a name), and holds the unpacked bytes to the limits.  It runs
in this process: no helper program is searched in a path that an image could influence.

isal and zstandard release the GIL while they work.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib

import zstandard
from isal import igzip, igzip_lib

from layerstore.errors import InvalidImage, LimitExceeded
from layerstore.limits import DEFAULT, Limits
from unionfs.light_typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from typing import IO, BinaryIO

_CHUNK = 1 << 18
_LONGEST_MAGIC = 6
_DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    OverflowError,  # isal's, for a gzip header that does not end
    gzip.BadGzipFile,
    cast("type[Exception]", igzip_lib.IsalError),
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
)

GZIP, ZSTD, XZ, BZIP2 = "gzip", "zstd", "xz", "bzip2"

# The lowest, the default and the highest level.  Speed and compressed size of the defaults,
# measured on a Debian /usr: isal level 2: 484 MB/s, 41 %; zstd level 3: 241 MB/s, 35 %.
LEVELS = {GZIP: (0, 2, 3), ZSTD: (1, 3, 19)}


class Readable(Protocol):
    """A stream that can be read."""

    def read(self, size: int, /) -> bytes: ...


class _Decoder(Protocol):
    """The common methods of the decompressors of lzma and bz2."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Counted(io.RawIOBase):
    """The packed stream, its first bytes included; counts what is read."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream
        self._into = getattr(stream, "readinto", None)
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._head:
            size = min(len(self._head), len(buffer))
            buffer[:size] = self._head[:size]
            self._head = self._head[size:]
        elif self._into is not None:
            size = self._into(buffer) or 0
        else:
            data = self._stream.read(len(buffer))
            size = len(data)
            buffer[:size] = data
        self.count += size
        return size


class _Members(io.RawIOBase):
    """A stream of xz or bzip2, of one member or several."""

    def __init__(self, stream: _Counted, kind: str, limits: Limits) -> None:
        self._stream = stream
        self._kind = kind
        self._limits = limits
        self._decoder = self._new()

    def _new(self) -> _Decoder:
        if self._kind == BZIP2:
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(memlimit=self._limits.window)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            data = b""
            if self._decoder.eof:
                rest = self._decoder.unused_data or self._stream.read(_CHUNK) or b""
                # An xz stream may be followed by padding zeros.
                rest = rest.lstrip(b"\0") if self._kind == XZ else rest
                if not rest:
                    return 0
                self._decoder, data = self._new(), rest
            elif self._decoder.needs_input:
                data = self._stream.read(_CHUNK) or b""
                if not data:
                    raise EOFError("the compressed data ends early")
            found = self._decoder.decompress(data, len(buffer))
            if found:
                buffer[: len(found)] = found
                return len(found)


class Decompressed(io.RawIOBase):
    """The unpacked bytes of a stream; `kind` is its compression, None for none."""

    def __init__(self, stream: Readable, limits: Limits = DEFAULT) -> None:
        head = b""
        while len(head) < _LONGEST_MAGIC:
            more = stream.read(_LONGEST_MAGIC - len(head))
            if not more:
                break
            head += more
        self.kind = kind = sniff(head)
        self._limits = limits
        self._packed = _Counted(head, stream)
        self._inner = _open(self._packed, kind, limits)
        self._into = getattr(self._inner, "readinto")  # noqa: B009 - the stubs lack it
        self._total = 0

    @property
    def packed(self) -> int:
        """How many bytes of the packed stream have been read."""
        return self._packed.count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into `buffer`; raises InvalidImage for damaged data, LimitExceeded."""
        try:
            size: int = self._into(buffer)
        except _DAMAGE as e:
            raise InvalidImage(
                f"the {self.kind} stream is damaged, cut short, or needs more than "
                f"{self._limits.window >> 20} MiB of memory to unpack: {e}"
            ) from None
        except OSError as error:
            if self.kind == BZIP2 and error.errno is None:
                raise InvalidImage(f"the bzip2 stream is damaged: {error}") from None
            raise
        self._total = total = self._total + size
        limits = self._limits
        if total > limits.size:
            raise LimitExceeded(
                f"the archive unpacks to more than {limits.size >> 30} GiB, which is the limit"
            )
        if total > limits.ratio_from and total > limits.ratio * self._packed.count:
            raise LimitExceeded(
                f"the archive unpacks to more than {limits.ratio:,} times its size, "
                "as a decompression bomb does"
            )
        return size


def sniff(head: bytes) -> str | None:
    """Return the compression of a stream that begins with `head`, None for none."""
    if head.startswith(b"\x1f\x8b"):
        return GZIP
    if head.startswith(b"\x28\xb5\x2f\xfd") or (
        head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    ):
        return ZSTD
    if head.startswith(b"\xfd7zXZ\0"):
        return XZ
    if head.startswith(b"BZh"):
        return BZIP2
    return None


def _open(packed: _Counted, kind: str | None, limits: Limits) -> object:
    if kind == GZIP:
        return igzip.IGzipFile(fileobj=packed, mode="rb")  # type: ignore[no-untyped-call]
    if kind == ZSTD:
        decoder = zstandard.ZstdDecompressor(max_window_size=limits.window)
        source = cast("IO[bytes]", packed)
        return decoder.stream_reader(source, read_size=_CHUNK, read_across_frames=True)
    if kind in (XZ, BZIP2):
        return _Members(packed, kind, limits)
    return packed


def open_decompressed(stream: Readable, limits: Limits = DEFAULT) -> Decompressed:
    """Return a reader of the unpacked bytes of `stream`."""
    return Decompressed(stream, limits)


def open_compressor(out: BinaryIO, kind: str, level: int | None = None) -> BinaryIO:
    """Return a writer that packs into `out`; closing it ends the stream and leaves `out` open.

    `level` is in the range of LEVELS for `kind`; the default is the second value there.
    """
    if level is None:
        level = LEVELS[kind][1]
    if kind == GZIP:
        # No name and no time in the header, so the same content gives the same bytes.
        packer = igzip.IGzipFile(  # type: ignore[no-untyped-call]
            filename="", fileobj=out, mode="wb", compresslevel=level, mtime=0
        )
        return cast("BinaryIO", packer)
    if kind == ZSTD:
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        return cast("BinaryIO", compressor.stream_writer(out, closefd=False))
    raise ValueError(kind)
