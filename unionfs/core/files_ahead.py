"""Ask the disk for small files before a program reads them.

A program that reads one file after the other, as grep -r and tar do, waits for the disk at each
that is not in memory.  When files of a directory came from the disk in an order that `runs` knows,
those that follow are asked for, several at a time: the disk works on them together, and
while the program works on others.  Their data comes into the kernel's cache only, as if somebody
else had read the layer: nothing is kept here, so nothing can be stale.

Decided here and only here: which files are asked for, and how far ahead.  `MOST` files, and of
each at most its first `LARGEST` bytes, may be ahead of the program; a directory whose files turn
out to be in memory is left alone.

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
from unionfs.core.runs import Run, Runs
from unionfs.core.whiteout import DT_REG, TYPE_MASK

MOST = 16  # files
LARGEST = 128 << 10  # bytes
_AT_FIRST = 4  # so many for each file that was read in order
_MEMORY_NS = 2000  # to ask for a file that is in memory takes less
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FilesAhead:
    """What the disks of one union are asked for ahead of its programs.

    `directories` has those of which files are being read from the disk.
    """

    __slots__ = ("_runs", "_turn", "directories")

    def __init__(self) -> None:
        self._runs = Runs()
        self._turn = threading.Lock()
        self.directories = self._runs.directories

    def follow(self, node: File) -> None:
        """Note that `node`, a file of a lower, is read, and ask for what is likely to be next.

        Called for each file of one of the `directories`, and for one of another that came from
        the disk.  The caller holds no lock of the core.
        """
        if not self._turn.acquire(blocking=False):
            return
        try:
            run = self._runs.note(node)
            if run is None:
                return
            ahead = min(_AT_FIRST * run.count, MOST)
            if 2 * (run.front - run.at) < ahead and run.front + 1 < len(run.names):
                # No program wants to know.  If it reads the file, it gets the error of that.
                with suppress(OSError):
                    _ask_next(node.parent, run, run.at + ahead)
        finally:
            self._turn.release()


def _ask_next(parent: Dir, run: Run, end: int) -> None:
    """Ask for the files after `run.front` up to position `end`."""
    loaded, names = parent.loaded, run.names
    if loaded is None:
        return
    first, run.front = run.front + 1, end
    asked = took_ns = 0
    for name in names[first : end + 1]:
        packed = loaded.lower.get(name, 0)
        if packed & TYPE_MASK == DT_REG and loaded.find(name) is LOWER:
            took_ns += ask(parent.lowers[lower_position(packed)].fd(), name)
            asked += 1
    if asked and took_ns < _MEMORY_NS * asked:
        run.count, run.front = 0, len(names)


def ask(dir_fd: int, name: bytes) -> int:
    """Ask for the file `name`; return how many ns the kernel took to note it.  No atime changes."""
    fd = os.open(name, _OPEN, dir_fd=dir_fd)
    try:
        began = perf_counter_ns()
        os.posix_fadvise(fd, 0, LARGEST, os.POSIX_FADV_WILLNEED)
        return perf_counter_ns() - began
    finally:
        os.close(fd)
