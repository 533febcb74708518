"""Write our own archives: entries in PAX format, with their records in the tar-split.

Decided here and only here: how an entry is written.  The same entries always give the
same bytes.  Holes are written as zeros, without reading them, or left out of a sparse
entry.

Source: image-spec layer.md; POSIX pax(1).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import xxhash

from layerstore.errors import StoreError
from layerstore.layer.holes import BLOCK, ContentHasher, data_ranges
from layerstore.layer.tar_split import SplitWriter
from layerstore.tar.headers import END, padding
from layerstore.tar.pipeline import Sink
from layerstore.tar.reader import show

_SMALL = 1 << 16  # a file of at most so many bytes is read without looking for holes


Ranges = Sequence[tuple[int, int]]
"""The (start, end) of each piece of data in a sparse file."""

_LEAST_HOLES = 1 << 20  # a file with so many bytes of holes is stored as a sparse entry
_MOST_RANGES = 10_000


def worthy_ranges(fd: int, size: int, st_blocks: int) -> Ranges | None:
    """Return the data of the file `fd` if it should be stored as a sparse entry, else None.

    Not every program can read such entries, so it must save a lot.
    """
    if size - st_blocks * 512 < _LEAST_HOLES:
        return None
    ranges = list(itertools.islice(data_ranges(fd, size), _MOST_RANGES + 1))
    holes = size - sum(end - start for start, end in ranges)
    return None if len(ranges) > _MOST_RANGES or holes < _LEAST_HOLES else ranges


class TarWriter:
    """Writes entries to `sink`, and records to `split` with which they can be written again."""

    def __init__(self, sink: Sink, split: SplitWriter | None = None) -> None:
        self._sink = sink
        self._split = split
        self.entries = 0

    def header(self, header: bytes) -> None:
        """Write the header of an entry."""
        self.entries += 1
        self._raw(header)

    def content(self, fd: int, path: bytes, size: int, st_blocks: int, *, shown: bool) -> str:
        """Write `size` bytes of the file `fd`, and fill the last block.

        `shown` says that a layer beneath has the file, which the layer only shows.
        Returns the digest of the content, as the index has it.
        """
        if self._split is not None:
            self._split.file(path, size, None, shown=shown)
        if size <= _SMALL or st_blocks * 512 >= size:
            digest = self._plain(fd, path, size)
        else:
            digest = self._with_holes(fd, path, size)
        rest = padding(size)
        if rest:
            self._raw(END[:rest])
        return digest

    def pieces(self, fd: int, path: bytes, sparse_map: bytes, ranges: Ranges) -> None:
        """Write a sparse file: its map, then `ranges` of the file `fd`, and fill the last block."""
        self._raw(sparse_map)
        for start, end in ranges:
            self._copy(fd, path, start, end - start, None)
        rest = padding(sum(end - start for start, end in ranges))
        if rest:
            self._raw(END[:rest])

    def end(self) -> None:
        """Write the mark of the end."""
        self._raw(END + END)

    def _raw(self, data: bytes) -> None:
        self._sink.write(data)
        if self._split is not None:
            self._split.raw(data)

    def _plain(self, fd: int, path: bytes, size: int) -> str:
        sink = self._sink
        room = sink.room()
        if size <= len(room) and size < BLOCK:
            # Most files are written in one piece.
            view = room[:size]
            if os.readv(fd, [view]) == size:
                sink.filled(size)
                return xxhash.xxh3_128_hexdigest(view)
        hasher = ContentHasher()
        self._copy(fd, path, 0, size, hasher)
        return hasher.digest()

    def _copy(
        self, fd: int, path: bytes, offset: int, size: int, hasher: ContentHasher | None
    ) -> None:
        sink = self._sink
        while size:
            view = sink.room()[:size]
            done = os.preadv(fd, [view], offset)
            if done == 0:
                raise _shorter(path)
            if hasher is not None:
                hasher.update(view[:done])
            sink.filled(done)
            offset += done
            size -= done

    def _with_holes(self, fd: int, path: bytes, size: int) -> str:
        hasher = ContentHasher()
        at = 0
        for start, end in data_ranges(fd, size):
            self._zeros(start - at, hasher)
            self._copy(fd, path, start, end - start, hasher)
            at = end
        if os.fstat(fd).st_size < size:
            # Beyond its end there is no data either, but no hole.
            raise _shorter(path)
        self._zeros(size - at, hasher)
        return hasher.digest()

    def _zeros(self, size: int, hasher: ContentHasher) -> None:
        hasher.zeros(size)
        self._sink.zeros(size)


def _shorter(path: bytes) -> StoreError:
    return StoreError(f"{show(path)} became shorter while it was read")
