"""Sparse files: where their data is, and the digest of their content without reading holes.

Decided here and only here: how holes are skipped.  They count as zeros, so a digest
does not depend on which zeros the disk stores, but they are not read.

Source: lseek(2) SEEK_DATA, SEEK_HOLE.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import xxhash

_CHUNK = 1 << 20
_ZEROS = memoryview(bytes(_CHUNK))


def data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each range of data in the first `size` bytes of the file `fd`."""
    at = 0
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


def hash_zeros(hasher: xxhash.xxh3_128, size: int) -> None:
    """Add `size` zero bytes to `hasher`."""
    while size > 0:
        step = min(size, _CHUNK)
        hasher.update(_ZEROS[:step])
        size -= step


def digest_fd(fd: int) -> str:
    """Return the xxh3_128, in hexadecimal, of the regular file `fd`; its offset changes."""
    hasher = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_CHUNK))
    st = os.fstat(fd)
    at = 0
    if st.st_blocks * 512 < st.st_size:
        for start, end in data_ranges(fd, st.st_size):
            hash_zeros(hasher, start - at)
            at = _hash_range(fd, start, end, hasher, buffer)
            if at < end:
                return hasher.hexdigest()  # it became shorter meanwhile
        hash_zeros(hasher, st.st_size - at)
        at = st.st_size
    _hash_range(fd, at, None, hasher, buffer)
    return hasher.hexdigest()


def _hash_range(
    fd: int, start: int, end: int | None, hasher: xxhash.xxh3_128, buffer: memoryview
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
