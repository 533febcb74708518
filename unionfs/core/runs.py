"""Notice that a program goes through the files of a directory in the order of its listing.

Decided here and only here: what counts as that.  A program may leave out a few names, or
stay at one, and one that has gone through a directory begins with the next one.  `MOST`
directories are remembered, as several programs may be at work at the same time.

Threading: the caller has a lock of its own.
"""

from __future__ import annotations

from contextlib import suppress

from unionfs.core.inode import Dir, File
from unionfs.core.readdir import Listing

GAP = 4  # names among which the next one is
MOST = 8  # directories
_FAR = 4096  # names among which the first file of a run is searched


class Run:
    """Files of one directory that a program uses in the order of `listing`.

    `at` is the position of the latest, and `count` how many were in order after the first.
    `front` is the position up to which something was done ahead, for the caller to set; it is
    never before `at`.
    """

    __slots__ = ("at", "count", "front", "listing")

    def __init__(self, listing: Listing, at: int, count: int) -> None:
        self.listing, self.at, self.front, self.count = listing, at, at, count


class Runs:
    """The latest runs, by directory."""

    __slots__ = ("_count", "_runs")

    def __init__(self) -> None:
        self._runs: dict[Dir, Run] = {}
        self._count = 0  # of the latest run

    def __contains__(self, parent: Dir) -> bool:
        return parent in self._runs

    def clear(self) -> None:
        """Forget all of them."""
        self._runs.clear()

    def note(self, node: File) -> Run | None:
        """Note that `node` is used, and return its run; None if its directory was not listed."""
        parent, listing = node.parent, node.parent.listing
        run = self._runs.pop(parent, None)
        if listing is None:
            return None
        at = None
        if run is not None and run.listing is listing:
            at = _position(listing.names, node.name, run.at, 1 + GAP)
        if run is not None and at is not None:
            run.count += at > run.at
            run.at, run.front = at, max(run.front, at)
        else:
            at = _position(listing.names, node.name, 0, _FAR)
            if at is None:
                return None
            run = Run(listing, at, self._count if at < GAP else 0)
        self._count = run.count
        self._runs[parent] = run
        if len(self._runs) > MOST:
            del self._runs[next(iter(self._runs))]
        return run


def _position(names: list[bytes], name: bytes, begin: int, count: int) -> int | None:
    """Return the position of `name` among `count` of the `names`, None if it is not there."""
    with suppress(ValueError):
        return names.index(name, begin, begin + count)
    return None
