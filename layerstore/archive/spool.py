"""An archive as an uncompressed file that can be read at any offset.

This module alone decides when an archive is copied to disk before it is read.
A regular file that is not compressed is read in place; a pipe or a
compressed file is copied.  It is copied only if it begins like a tar.  Runs of zeros
become holes, so a few megabytes that unpack to gigabytes of zeros take no space.
"""

from __future__ import annotations

import io
import os
import stat
from contextlib import suppress
from pathlib import Path

from layerstore.errors import NotATar
from layerstore.limits import DEFAULT, Limits
from layerstore.tar.compression import Decompressed, Readable, open_decompressed
from layerstore.tar.headers import BLOCK, END, Header
from layerstore.tar.pipeline import CHUNK
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls.copyfile import write_at

if TYPE_CHECKING:
    from typing import BinaryIO

_PIECE = 1 << 16  # bytes that become a hole if all are zero
_ZEROS = bytes(_PIECE)


def plain_file(stream: Readable, spool: Path, limits: Limits = DEFAULT) -> BinaryIO:
    """Return a file with the uncompressed content of `stream`; the caller closes it.

    A copy is a file without a name in the directory `spool`.  Raises NotATar if it does
    not begin like a tar, LimitExceeded, and OSError from reading or writing.
    """
    unpacked = open_decompressed(stream, limits)
    fd = _regular(stream)
    if fd is not None and unpacked.kind is None:
        return os.fdopen(os.dup(fd), "rb")
    head = _first_block(unpacked)
    copy = os.fdopen(os.open(spool, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b", 0)
    try:
        _copy(head, unpacked, copy.fileno())
    except BaseException:
        copy.close()
        raise
    return copy


def _first_block(stream: Decompressed) -> bytes:
    """Return the first block; raises NotATar unless it is a header, the end, or missing."""
    head = b""
    while len(head) < BLOCK and (more := stream.read(BLOCK - len(head))):
        head += more
    if head and head != END:
        if len(head) < BLOCK:
            raise NotATar("this is no tar archive of images: it is shorter than a header")
        try:
            Header(head)
        except NotATar as error:
            raise NotATar(f"this is no tar archive of images: {error}") from None
    return head


def _copy(head: bytes, stream: Decompressed, fd: int) -> None:
    write_at(fd, head, 0)
    size = len(head)
    if head == END:
        return  # the bytes after the end mark do not count
    buffer = memoryview(bytearray(CHUNK))
    while count := stream.readinto(buffer):
        for at in range(0, count, _PIECE):
            piece = buffer[at : min(at + _PIECE, count)]
            if piece != _ZEROS[: len(piece)]:
                write_at(fd, piece, size + at)
        size += count
    os.ftruncate(fd, size)


def _regular(stream: Readable) -> int | None:
    """Return the fd of `stream` if it is a regular file that is read from its beginning."""
    with suppress(AttributeError, OSError, io.UnsupportedOperation):
        fd: int = stream.fileno()  # type: ignore[attr-defined]
        if stat.S_ISREG(os.fstat(fd).st_mode) and _began_at_zero(stream):
            return fd
    return None


def _began_at_zero(stream: Readable) -> bool:
    # The first bytes, which show the compression, have been read already.
    return int(stream.tell()) <= 6  # type: ignore[attr-defined]
