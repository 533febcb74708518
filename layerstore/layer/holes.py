"""Sparse files: where their data is, and the digest of their content without reading holes.

Decided here and only here: how holes are skipped, and what the digest of a file is.  Holes
count as zeros, so a digest does not depend on which zeros the disk stores.  They are neither
read nor hashed, so a file costs what is in it, whatever its size.

The digest is the xxh3_128 of the content, in hexadecimal.  If aligned blocks of 1 MiB are
entirely zeros, they are left out and their places follow the other bytes; such a digest
begins with `HOLES`.  Indexes of version 1 hash these blocks too.

Source: lseek(2) SEEK_DATA, SEEK_HOLE.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

import xxhash

BLOCK = 1 << 20
"""The bytes of a block that is left out of a digest if they are all zeros."""

HOLES = "holes:"
"""What the digest of a file begins with that has such blocks."""

_ZEROS = bytes(BLOCK)
_RUN = struct.Struct("<QQ")


class ContentHasher:
    """Computes the digest of a file from its bytes, which come in order.

    Without `holes` blocks of zeros are hashed as all others.
    """

    def __init__(self, *, holes: bool = True) -> None:
        self._hash = xxhash.xxh3_128()
        self._holes = holes
        self._at = 0
        self._zeros = 0  # how many bytes, all zeros, of the present block are not hashed yet
        self._run: tuple[int, int] | None = None  # the last blocks of zeros: the first, the end
        self._runs = xxhash.xxh3_128()

    def update(self, data: memoryview) -> None:
        """Add the bytes of `data`."""
        if not self._holes:
            self._hash.update(data)
            return
        while data:
            within = self._at % BLOCK
            piece = data[: BLOCK - within]
            data = data[len(piece) :]
            if self._zeros == within and _ZEROS.startswith(piece):
                self._add_zeros(len(piece))
            else:
                self._flush()
                self._hash.update(piece)
                self._at += len(piece)

    def zeros(self, size: int) -> None:
        """Add `size` zero bytes."""
        within = self._at % BLOCK
        first = min(size, -within % BLOCK)
        if first:
            self.update(memoryview(_ZEROS)[:first])
        size -= first
        if self._holes and size >= BLOCK:
            self._leave_out(size // BLOCK)
            size %= BLOCK
        while size > 0:
            step = min(size, BLOCK)
            self.update(memoryview(_ZEROS)[:step])
            size -= step

    def digest(self) -> str:
        """Return the digest of the bytes so far, which are then the whole file."""
        self._flush()
        if self._run is None:
            return self._hash.hexdigest()
        self._runs.update(_RUN.pack(*self._run))
        self._hash.update(self._runs.digest())
        return HOLES + self._hash.hexdigest()

    def _add_zeros(self, size: int) -> None:
        self._zeros += size
        self._at += size
        if self._zeros == BLOCK:
            self._zeros = 0
            self._at -= BLOCK
            self._leave_out(1)

    def _leave_out(self, count: int) -> None:
        """Note that the next `count` blocks are zeros."""
        first = self._at // BLOCK
        self._at += count * BLOCK
        if self._run is not None and self._run[1] == first:
            first = self._run[0]
        elif self._run is not None:
            self._runs.update(_RUN.pack(*self._run))
        self._run = first, self._at // BLOCK

    def _flush(self) -> None:
        if self._zeros:
            self._hash.update(memoryview(_ZEROS)[: self._zeros])
            self._zeros = 0


def data_ranges(fd: int, size: int, at: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each range of data from `at` to `size` in the file `fd`."""
    while at < size:
        try:
            start = min(os.lseek(fd, at, os.SEEK_DATA), size)
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size) if start < size else size
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # only a hole is left
        if start < end:
            yield start, end
        at = end


def digest_fd(fd: int, *, holes: bool = True) -> str:
    """Return the digest of the regular file `fd`, whose offset may change.

    Without `holes` it is that of an index of version 1.
    """
    st = os.fstat(fd)
    if st.st_size < BLOCK:
        data = os.pread(fd, st.st_size, 0)
        if len(data) == st.st_size:
            return xxhash.xxh3_128_hexdigest(data)
    hasher = ContentHasher(holes=holes)
    buffer = memoryview(bytearray(BLOCK))
    at = 0
    if st.st_blocks * 512 < st.st_size:
        for start, end in data_ranges(fd, st.st_size):
            hasher.zeros(start - at)
            at = _hash_range(fd, start, end, hasher, buffer)
            if at < end:
                return hasher.digest()  # it became shorter meanwhile
        hasher.zeros(st.st_size - at)
        at = st.st_size
    _hash_range(fd, at, None, hasher, buffer)
    return hasher.digest()


def _hash_range(
    fd: int, start: int, end: int | None, hasher: ContentHasher, buffer: memoryview
) -> int:
    """Add the bytes from `start` to `end`, or to the end of the file; return where they ended."""
    while end is None or start < end:
        room = buffer if end is None else buffer[: end - start]
        size = os.preadv(fd, [room], start)
        if not size:
            break
        hasher.update(buffer[:size])
        start += size
    return start
