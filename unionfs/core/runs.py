"""Notice that a program goes through the files of a directory in an order that can be foreseen.

Decided here and only here: what counts as that.  It is the order of the listing, in which find,
tar and rm go, or that of the sorted names, as a shell's `*` and programs that sort give it.  A
program may leave out a few names, or stay at one, and one that has gone through a directory
begins with the next one.  Where it goes on can be foreseen as well, see `next_dirs`.  `MOST`
directories are remembered, as several programs may be at work at the same time.

Threading: the caller has a lock of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress

from unionfs.core.inode import Dir, File
from unionfs.core.readdir import Listing

GAP = 4  # names among which the next one is
MOST = 64  # directories
_FAR = 4096  # names among which the first file of a run is searched; more are not sorted


class Run:
    """Files of the directory `parent` that a program uses in the order of `names`.

    These are those of `listing`, in its order or sorted.  `at` is the position of the latest, -1
    if the program is expected but has not come yet, and `count` how many were in order after those
    by which the order was taken.  `front` is the position up to which something was done ahead,
    for the caller to set; it is never before `at`.  `done` counts, for the caller, for how many
    of them that was.  `then` is the run of the directory in which
    the program is expected to go on, and `is_last` says that there is no such directory.
    `was_expected` says that the program has come as it was expected to.
    """

    __slots__ = (
        "_sorted",
        "at",
        "count",
        "done",
        "front",
        "is_last",
        "listing",
        "names",
        "parent",
        "then",
        "was_expected",
    )

    def __init__(self, parent: Dir, listing: Listing, at: int, before: Run | None) -> None:
        """Begin at position `at` of `listing`; `before` is an earlier run of the directory."""
        self.parent, self.listing, self.names = parent, listing, listing.names
        self.at, self.front, self.count = at, at, 0
        self.done = 0
        self.then: Run | None = None
        self.is_last = self.was_expected = False
        self._sorted: list[bytes] | None = None
        if before is not None and before.listing is listing:
            self._sorted = before._sorted

    @property
    def is_sorted(self) -> bool:
        return self.names is self._sorted

    @property
    def ahead(self) -> int:
        """How many names are ahead of the program; where it has not come yet only those `done`."""
        return self.front - self.at if self.at >= 0 else self.done

    def chain(self) -> Iterator[Run]:
        """Yield this run and those that are expected to follow it."""
        run: Run | None = self
        while run is not None:
            yield run
            run = run.then

    def goes_on(self, name: bytes) -> bool:
        """Note that `name` is used, if it is what comes next; tell whether it is."""
        at = _position(self.names, name, max(self.at, 0), 1 + GAP)
        if at is not None:
            if self.at < 0:
                self.was_expected = True
            self.count += at > self.at
            self.at, self.front = at, max(self.front, at)
            return True
        # One in the other order may be chance, so it counts for nothing yet.
        if self.at < 0 or not self.turn() or self.names[self.at + 1 : self.at + 2] != [name]:
            return False
        self.at = self.front = self.at + 1
        return True

    def turn(self) -> bool:
        """Stay at the same file, and take the other order; tell whether there is one."""
        name, in_order = self.names[self.at], self._in_order()
        if in_order is None:
            return False
        if self.is_sorted:
            names, at = self.listing.names, _position(self.listing.names, name, 0, _FAR)
        else:
            names, at = in_order, bisect_left(in_order, name)
        if at is None or names[at : at + 1] != [name]:  # it came after the names were sorted
            return False
        self.names, self.at, self.front, self.count = names, at, at, 0
        self.then, self.is_last = None, False
        return True

    def _in_order(self) -> list[bytes] | None:
        """Return the sorted names, None if there are too many of them."""
        if self._sorted is None and len(self.listing.names) <= _FAR:
            self._sorted = sorted(self.listing.names)
        return self._sorted

    def expect(self, parent: Dir, listing: Listing) -> Run:
        """Return the run of the directory `parent`, in which the program is expected next."""
        run = self.then = Run(parent, listing, -1, None)
        run.count = self.count
        if self.is_sorted:
            run.names = run._in_order() or listing.names
        return run


class Runs:
    """The latest runs, in `directories` by the directory."""

    __slots__ = ("_latest", "directories")

    def __init__(self) -> None:
        self.directories: dict[Dir, Run] = {}
        self._latest: Run | None = None

    def clear(self) -> None:
        """Forget all of them."""
        self.directories.clear()
        self._latest = None

    def has_come(self, parent: Dir) -> bool:
        """Tell whether a program is known to have been in `parent`."""
        run = self.directories.get(parent)
        return run is not None and run.at >= 0

    def expect(self, run: Run) -> None:
        """Remember `run`, which `Run.expect` made."""
        self.directories[run.parent] = run
        self._limit()

    def note(self, node: File) -> Run | None:
        """Note that `node` is used, and return its run; None if its directory was not listed."""
        parent, listing = node.parent, node.parent.listing
        run = self.directories.pop(parent, None)
        if listing is None:
            return None
        if run is None or run.listing is not listing or not run.goes_on(node.name):
            at = _position(listing.names, node.name, 0, _FAR)
            if at is None:
                return None
            run = self._begun(Run(parent, listing, at, run))
        self._latest = self.directories[parent] = run
        self._limit()
        return run

    def _limit(self) -> None:
        if len(self.directories) > MOST:
            del self.directories[next(iter(self.directories))]

    def _begun(self, run: Run) -> Run:
        """Return `run`, which begins; it goes on with the latest if it is at its first file."""
        latest = self._latest
        if latest is None or not latest.count:
            return run
        if latest.is_sorted:
            run.turn()
        if run.at < GAP:
            run.count = latest.count
        return run


def _position(names: list[bytes], name: bytes, begin: int, count: int) -> int | None:
    """Return the position of `name` among `count` of the `names`, None if it is not there."""
    with suppress(ValueError):
        return names.index(name, begin, begin + count)
    return None
