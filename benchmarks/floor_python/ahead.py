"""Copies of lower files in the staging directory, of which several are written to disk together.

When files of a directory are copied up in the order of its listing, those that follow are
staged, and their fsync(2) begun, before they are asked for: `TOGETHER` at a time, and the next
ones while the program is still at those.  What was not asked for is removed when another
directory is begun.  As PyUnion does it, see `unionfs/core/stage_ahead.py`.
"""

from __future__ import annotations

import os
from itertools import count

from benchmarks.floor_python.copies import stage
from benchmarks.floor_python.inode import Node
from benchmarks.floor_python.listings import DT_REG
from unionfs.syscalls.aio import Syncs

TOGETHER = 16
LARGEST = 64 << 10  # bytes
RUN = 2  # files in order, after the first
_NEAR = 4  # files among which the next one is


class Ahead:
    """What is staged in the directory `work`; the caller has a lock."""

    def __init__(self, work: int) -> None:
        self._work = work
        self.syncs = Syncs(8 * TOGETHER)
        self._numbers = count()
        self._staged: dict[Node, tuple[int, int]] = {}  # its number and an fd
        self._ended: dict[int, int] = {}  # the errno of each sync
        # The directory that is copied up, its files in order, and where the program is, and we.
        self._directory: Node | None = None
        self._order: list[Node] = []
        self._at = self._front = self._run = 0

    def take(self, node: Node) -> tuple[bytes, int]:
        """Return the name and an fd of the copy of a file, whose data is on disk."""
        begun: list[tuple[int, int]] = []
        is_due = self._is_due(node)
        if node not in self._staged:
            begun.append(self._stage(node))
        if is_due:
            end = self._front + TOGETHER
            for other in self._order[self._front : end]:
                if self._is_likely(other):
                    begun.append(self._stage(other))
            self._front = end
        if begun and self.syncs.begin([(fd, number) for number, fd in begun]) != len(begun):
            raise BlockingIOError
        number, fd = self._staged.pop(node)
        while number not in self._ended:
            self._ended.update(self.syncs.ended(1))
        if error := self._ended.pop(number):
            raise OSError(error, os.strerror(error))
        return _name(number), fd

    def _stage(self, node: Node) -> tuple[int, int]:
        number = next(self._numbers)
        fd = stage(node.at, node.name, self._work, _name(number))
        self._staged[node] = number, fd
        return number, fd

    def _is_likely(self, node: Node) -> bool:
        if node.kind != DT_REG or node.in_upper or node.gone or node in self._staged:
            return False
        if node.stale:
            node.refresh()
        return 0 < node.size() <= LARGEST

    def _is_due(self, node: Node) -> bool:
        """Note that a program is at `node`; tell whether to stage what follows."""
        if node.parent is not self._directory:
            self._begin(node.parent)
        try:
            at = self._order.index(node, self._at, self._at + _NEAR)
            self._run += 1
        except ValueError:
            at, self._run = self._order.index(node), 0
            self._front = at
        self._at = at
        self._front = max(self._front, at + 1)
        return self._run > RUN and self._front - at <= TOGETHER and self._front < len(self._order)

    def _begin(self, directory: Node) -> None:
        for number, fd in self._staged.values():
            os.unlink(_name(number), dir_fd=self._work)
            os.close(fd)
        self._staged.clear()
        self._directory, self._order = directory, list(directory.names.values())
        self._at = self._front = 0


def _name(number: int) -> bytes:
    return b"#%x" % number
