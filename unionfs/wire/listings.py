"""Listings under way, and changes of their directories meanwhile.

The kernel keeps the listing of a directory in its cache, and drops it when it changes the
directory itself.  Still it can keep a listing that is out of date, if two programs list the
directory while a third changes it:

1. The first program gets its answer, and has not put it into the cache yet.
2. The third one changes the directory, and the kernel drops the cache.
3. The second one begins to list.  The kernel notes the present version of the directory for
   the cache that is now filled.
4. The first one puts its old answer there.

Names that are gone would be listed, or new ones not, until the directory changes again.  So
when the kernel asks for the end of a listing, and the directory was changed since a listing
began, it is told to drop the cache.  The change may be a request, or a restore; a restore
tells the kernel to drop what it has at that moment, which is no help against step 4.

Threading: each step is one operation on a dictionary or a set.  If two threads are here at
once, a listing may count as out of date that is not: it is asked for once more.

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
