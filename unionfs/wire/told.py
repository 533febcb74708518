"""Attributes that programs were told, and changes that they may not know of.

The kernel takes attributes from a reply when the program that asked runs again.  If another one
has changed the inode meanwhile, and its reply was taken first, they are those of before.  Mostly
the kernel knows that: a write, truncation, chmod, chown, link or unlink raises the inode's
attr_version, and attributes that were asked for before it are dropped.  But some changes make the
kernel only forget attributes, and the late reply would bring the old ones back, until the next
change: the times of a directory when a name in it changes, the ctime of what is renamed, and
the ctime, and with an ACL the mode, when an extended attribute changes.  A fallocate(2) that
keeps the size is another.

A notice ends that, since it raises attr_version too.  One is sent after such a change if another
program was told the attributes a moment ago.

If a program asks for very many inodes, it is noted only that these were many.  With a
`timeout=` the old attributes last no longer than that.

Threading: each step is one operation on a dictionary.  Where two threads meet, a notice is
sent that was not needed, or one for a program that was told long ago is left out.

Source: fs/fuse/inode.c:fuse_change_attributes_i(), fuse_reverse_inval_inode();
fs/fuse/dir.c:fuse_dir_changed(), fuse_update_ctime(); fs/fuse/acl.c:fuse_set_acl();
fs/fuse/file.c:fuse_file_fallocate().
"""

from __future__ import annotations

import time

from unionfs.light_typing import Protocol
from unionfs.types import Attr, NodeId
from unionfs.vfs import Filesystem

MOST = 1024  # inodes
SUSPECT_S = 1.0
"""How long a program may take to use an answer that it has."""

_UNKNOWN = 0  # FUSE's number of a thread that the mount's PID namespace does not have
_EVERYBODY = -1
_MANY = NodeId(0)
_now = time.monotonic


class Forgets(Protocol):
    """Makes the kernel forget attributes; see `modes.Cache`."""

    def forget_attributes(self, nodeid: NodeId) -> None: ...


class Told:
    """Which program was told the attributes of which inode, and when.

    `programs` has the thread by nodeid, `_EVERYBODY` for more than one; that of `_MANY` was told
    those of inodes that are not noted.
    """

    __slots__ = ("_cache", "programs")

    def __init__(self, cache: Forgets | None) -> None:
        self._cache = cache
        self.programs: dict[NodeId, tuple[int, float]] = {}

    def tell(self, nodeid: NodeId, pid: int) -> None:
        """Note that thread `pid` asks for the attributes; called before they are looked at."""
        programs, now = self.programs, _now()
        before = programs.get(nodeid)
        if before is not None and before[0] != pid and now - before[1] < SUSPECT_S:
            pid = _EVERYBODY
        elif before is None and len(programs) > MOST:
            self._note_less()
        programs[nodeid] = pid, now

    def tell_many(self, pid: int) -> None:
        """Note that thread `pid` asks for attributes of many inodes."""
        self.tell(_MANY, pid)

    def tell_linked(self, fs: Filesystem, attr: Attr, pid: int) -> Attr:
        """Note that thread `pid` has looked up a file by one of its names; return what to tell it.

        The kernel may know the inode by another name already.
        """
        self.tell(attr.nodeid, pid)
        try:
            return fs.getattr(attr.nodeid)
        except OSError:
            fs.forget(attr.nodeid, 1)
            raise

    def _note_less(self) -> None:
        """Make one note of all."""
        noted = self.programs.copy()
        if not noted:
            return  # another thread has just done so
        self.programs.clear()
        pids = {pid for pid, _ in noted.values()}
        pid = pids.pop() if len(pids) == 1 else _EVERYBODY
        self.programs[_MANY] = pid, max(when for _, when in noted.values())

    def changed(self, nodeid: NodeId, pid: int) -> None:
        """Note that thread `pid` has changed the inode; called after that."""
        programs = self.programs
        before, many = programs.pop(nodeid, None), programs.get(_MANY)
        if before is not None and self._misses(before, pid):
            self._forget(nodeid)
        elif many is not None:
            if self._misses(many, pid):
                self._forget(nodeid)
            elif many[0] != pid:  # it was told long ago
                programs.pop(_MANY, None)

    def _misses(self, told: tuple[int, float], pid: int) -> bool:
        """Tell whether a program that was told may not know of a change that `pid` made."""
        return (told[0] != pid or pid == _UNKNOWN) and _now() - told[1] < SUSPECT_S

    def _forget(self, nodeid: NodeId) -> None:
        if self._cache is not None:
            self._cache.forget_attributes(nodeid)
