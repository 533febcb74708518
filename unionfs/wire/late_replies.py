"""Replies with attributes that reach the kernel's cache after a later change of the inode.

The kernel takes the attributes from a reply only when the program that asked runs again.  If
another program has changed the inode meanwhile, and the kernel took the reply to that change
first, the attributes are out of date.  Usually the kernel notices: a write, truncation, chmod,
chown, link or unlink raises the inode's attr_version, and attributes that were asked for before
that are dropped.  But after some changes the kernel only forgets the attributes, and a late reply
brings the old ones back until the next change.  These changes are:

- a name in a directory changes, and so the times of the directory;
- a file is renamed, which changes its ctime;
- an extended attribute changes, and so the ctime, and with an ACL the mode;
- a fallocate(2) that keeps the size.

A notice to forget the attributes raises attr_version too.  One is sent after such a change, if
another program was told the attributes a moment ago.

If programs ask for very many inodes, these are not noted one by one, but only that there were
many.  In a mount with `timeout=` the old attributes last no longer than that.

Threading: each step is one operation on a dictionary.  If two threads are here at once, a
notice may be sent that was not needed, or one may be missing for a program that was told long
ago.

Source: fs/fuse/inode.c:fuse_change_attributes_i(), fuse_reverse_inval_inode();
fs/fuse/dir.c:fuse_dir_changed(), fuse_update_ctime(); fs/fuse/acl.c:fuse_set_acl();
fs/fuse/file.c:fuse_file_fallocate().
"""

from __future__ import annotations

from time import monotonic

from unionfs.light_typing import Protocol
from unionfs.types import Attr, NodeId
from unionfs.vfs import Filesystem

MOST = 1024  # inodes
SUSPECT_S = 1.0
"""How long a program may take to use an answer that it has."""

_UNKNOWN = 0  # FUSE's number of a thread that the mount's PID namespace does not have
_NEVER = float("-inf")
_MANY = NodeId(0)


class Forgets(Protocol):
    """Makes the kernel forget attributes; see `modes.Cache`."""

    def forget_attributes(self, nodeid: NodeId) -> None: ...


class LateReplies:
    """Which program was told the attributes of which inode, and when.

    `programs` maps a nodeid to the thread that was told last, to the time, and to the time when
    another thread was told last.  The entry of `_MANY` is for all inodes that have none of their
    own.
    """

    __slots__ = ("_cache", "programs")

    def __init__(self, cache: Forgets | None) -> None:
        self._cache = cache
        self.programs: dict[NodeId, tuple[int, float, float]] = {}

    def asked(self, nodeid: NodeId, pid: int) -> None:
        """Note that thread `pid` asks for the attributes; called before they are looked at."""
        programs, others = self.programs, _NEVER
        before = programs.get(nodeid)
        if before is not None:
            others = before[2] if before[0] == pid else before[1]
        elif len(programs) > MOST:
            self._note_less()
        programs[nodeid] = pid, monotonic(), others

    def asked_many(self, pid: int) -> None:
        """Note that thread `pid` asks for attributes of many inodes."""
        self.asked(_MANY, pid)

    def asked_by_link(self, fs: Filesystem, attr: Attr, pid: int) -> Attr:
        """Note that thread `pid` has looked up a file by one of its names; return what to tell it.

        The kernel may know the inode by another name already.
        """
        self.asked(attr.nodeid, pid)
        try:
            return fs.getattr(attr.nodeid)
        except OSError:
            fs.forget(attr.nodeid, 1)
            raise

    def _note_less(self) -> None:
        """Replace all entries by one, that of `_MANY`."""
        noted = self.programs.copy()
        if not noted:
            return  # another thread has just done so
        self.programs.clear()
        last, when, _ = max(noted.values(), key=lambda asked: asked[1])
        others = max(asked[2] if asked[0] == last else asked[1] for asked in noted.values())
        self.programs[_MANY] = last, when, others

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

    def _misses(self, asked: tuple[int, float, float], pid: int) -> bool:
        """Tell whether a program that was told may not know of a change that `pid` made."""
        last, when, others = asked
        return monotonic() - (others if last == pid != _UNKNOWN else when) < SUSPECT_S

    def _forget(self, nodeid: NodeId) -> None:
        if self._cache is not None:
            self._cache.forget_attributes(nodeid)
