"""Attributes that programs were told, and changes that they may not know of.

The kernel takes the attributes of a directory from a reply when the program that asked runs
again.  If another one has changed the directory meanwhile, and its reply was taken first, they
are those of before: the directory's times would stay out of date until the next change.

A notice ends that, since the kernel then takes no attributes that were asked for before it.  One is
sent if a directory is changed a moment after another program was told its attributes.

Threading: each step is one operation on a dictionary.  Where two threads meet, a notice is
sent that was not needed, or one for a program that was told long ago is left out.

Source: fs/fuse/inode.c:fuse_change_attributes_i(), fuse_reverse_inval_inode();
fs/fuse/dir.c:fuse_dir_changed().
"""

from __future__ import annotations

import time

from unionfs.types import NodeId
from unionfs.wire.modes import Cache

MOST = 1024  # inodes
SUSPECT_S = 1.0
"""How long a program may take to use an answer that it has."""

_EVERYBODY = -1
_now = time.monotonic


class Told:
    """Which program was told the attributes of which inode, and when.

    `programs` has the thread by nodeid, `_EVERYBODY` for more than one.
    """

    __slots__ = ("_cache", "programs")

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache
        self.programs: dict[NodeId, tuple[int, float]] = {}

    def tell(self, nodeid: NodeId, pid: int) -> None:
        """Note that thread `pid` asks for the attributes; called before they are looked at."""
        programs, now = self.programs, _now()
        before = programs.get(nodeid)
        if before is not None and before[0] != pid and now - before[1] < SUSPECT_S:
            pid = _EVERYBODY
        elif before is None and len(programs) > MOST:
            programs.clear()
        programs[nodeid] = pid, now

    def changed(self, nodeid: NodeId, pid: int) -> None:
        """Note that thread `pid` has changed the directory; called after that."""
        before = self.programs.pop(nodeid, None)
        if before is None or before[0] == pid or self._cache is None:
            return
        if _now() - before[1] < SUSPECT_S:
            self._cache.forget_attributes(nodeid)
