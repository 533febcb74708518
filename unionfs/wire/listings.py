"""Listings under way, and changes of their directories meanwhile.

The kernel keeps the listing of a directory, and drops it when it changes the directory itself.
But two programs that list, and a third that changes, can make it keep one that is out of date:
the first has its answer, not yet used; the change comes, and then the second begins, which makes
the kernel note that what it is about to keep is of now; then the first fills it in.  Names
that are gone would be listed, or new ones not, until the directory changes again.

So when the end of a listing is asked for, after the kernel has kept the rest, and the
directory was changed since a listing began, the kernel is told to drop what it keeps.  It does
not matter who changed it: a request, or a restore, of which the kernel hears by a notice that
forgets what it has kept until then.

Threading: each step is one operation on a dictionary or a set.  Where two threads meet, a
listing counts as out of date, which costs no more than asking for it again.

Source: fs/fuse/readdir.c:fuse_readdir_cached(), fuse_add_dirent_to_cache().
"""

from __future__ import annotations

import time

from unionfs.types import NodeId

MOST = 256  # directories
SUSPECT_S = 1.0
"""How long a program may take to use an answer that it has."""


class Listings:
    """Which programs are listing which directory.

    `readers` are the directories that are being listed, with the threads that do so.
    """

    __slots__ = ("_suspect", "readers")

    def __init__(self) -> None:
        self.readers: dict[NodeId, set[int]] = {}
        # Directories that changed while they were listed, and until when that matters.
        self._suspect: dict[NodeId, float] = {}

    def begin(self, nodeid: NodeId, pid: int) -> None:
        """Note that thread `pid` begins to list; called before the names are looked at."""
        if len(self.readers) > MOST:  # programs need not read to the end
            self.readers.clear()
        self.readers.setdefault(nodeid, set()).add(pid)

    def changed(self, nodeid: NodeId) -> None:
        """Note that names in the directory may have changed; called after that."""
        if self.readers.pop(nodeid, None):
            if len(self._suspect) > MOST:
                self._suspect.clear()
            self._suspect[nodeid] = time.monotonic() + SUSPECT_S

    def end(self, nodeid: NodeId, pid: int) -> bool:
        """Note that `pid` has the whole listing; tell whether it may be out of date."""
        readers = self.readers.get(nodeid)
        current = readers is not None and pid in readers
        if readers is not None:
            readers.discard(pid)
            if not readers:
                self.readers.pop(nodeid, None)
        until = self._suspect.get(nodeid)
        if until is None:
            return not current
        if until < time.monotonic():
            self._suspect.pop(nodeid, None)
        return True
