"""Ask the disk for small files before a program reads them.

A program that reads one file after the other, as grep -r and tar do, waits for the disk at each
that is not in memory.  When files of a directory came from the disk in the order in which it lists
them, those that follow are asked for, several at a time: the disk works on them together, and
while the program works on others.  Their data comes into the kernel's cache only, as if somebody
else had read the layer: nothing is kept here, so nothing can be stale.

Decided here and only here: which files are asked for, and how far ahead.  `MOST` files of at most
`LARGEST` bytes may be ahead of the program; a directory whose files turn out to be in memory is
left alone.

Threading: a request that reads a file asks for the next ones, in its own thread, if it gets
`_turn` without waiting.

Source: posix_fadvise(2): POSIX_FADV_WILLNEED begins to read, and does not wait for the data.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from time import perf_counter_ns

from unionfs.core.inode import LOWER, Dir, File, lower_position
from unionfs.core.readdir import Listing
from unionfs.core.whiteout import DT_REG, TYPE_MASK

MOST = 16  # files
LARGEST = 128 << 10  # bytes
_AT_FIRST = 4  # so many for each file that was read in order
_GAP = 4  # names that a program may leave out
_FAR = 4096  # names among which the first file of a run is searched
_MEMORY_NS = 2000  # to ask for a file that is in memory takes less
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FilesAhead:
    """What the disks of one union are asked for ahead of its programs.

    The file at position `_at` of `_listing`, that of directory `_parent`, was read last, the
    `_count`th after the first in order.  Those up to position `_front` are asked for.
    """

    __slots__ = ("_at", "_count", "_front", "_listing", "_parent", "_turn")

    def __init__(self) -> None:
        self._parent: Dir | None = None
        self._listing: Listing | None = None
        self._at = self._front = self._count = 0
        self._turn = threading.Lock()

    def is_at(self, parent: Dir) -> bool:
        """Tell whether files of the directory `parent` are being read from the disk."""
        return self._parent is parent

    def follow(self, node: File) -> None:
        """Note that `node`, a file of a lower, is read, and ask for what is likely to be next.

        Called for each file of a directory that `is_at`, and for one of another that came from
        the disk.  The caller holds no lock of the core.
        """
        if not self._turn.acquire(blocking=False):
            return
        try:
            # No program wants to know.  If it reads the file, it gets the error of that.
            with suppress(OSError):
                self._follow(node.parent, node.name)
        finally:
            self._turn.release()

    def _follow(self, parent: Dir, name: bytes) -> None:
        listing, loaded = parent.listing, parent.loaded
        if listing is None or loaded is None or not self._find(parent, listing, name):
            self._parent = None
            return
        names, at = listing.names, self._at
        ahead = min(_AT_FIRST * self._count, MOST)
        first = max(self._front, at) + 1
        if 2 * (first - at) > ahead or first >= len(names):
            return
        self._front = at + ahead
        asked = took_ns = 0
        for name in names[first : self._front + 1]:
            packed = loaded.lower.get(name, 0)
            if packed & TYPE_MASK == DT_REG and loaded.find(name) is LOWER:
                took_ns += ask(parent.lowers[lower_position(packed)].fd(), name)
                asked += 1
        if asked and took_ns < _MEMORY_NS * asked:
            self._count, self._front = 0, len(names)

    def _find(self, parent: Dir, listing: Listing, name: bytes) -> bool:
        """Set `_at` to the position of `name`; tell whether it is there."""
        begin, end = 0, _FAR
        goes_on = parent is self._parent and listing is self._listing
        if goes_on:
            begin, end = self._at + 1, self._at + 1 + _GAP
        try:
            at = listing.names.index(name, begin, end)
        except ValueError:
            return False
        if goes_on:
            self._count += 1
        else:
            # A program that has gone through one directory begins with the next one.
            if at >= _GAP:
                self._count = 0
            self._parent, self._listing, self._front = parent, listing, at
        self._at = at
        return True


def ask(dir_fd: int, name: bytes) -> int:
    """Ask for the file `name`; return how many ns the kernel took to note it.  No atime changes."""
    fd = os.open(name, _OPEN, dir_fd=dir_fd)
    try:
        began = perf_counter_ns()
        os.posix_fadvise(fd, 0, LARGEST, os.POSIX_FADV_WILLNEED)
        return perf_counter_ns() - began
    finally:
        os.close(fd)
