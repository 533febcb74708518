"""The rights of the thread that asks for something.

Source: capabilities(7) "CAP_FSETID"; xattr(7) "Trusted extended attributes"; proc(5)
"/proc/pid/status".
"""

from __future__ import annotations

import os

CAP_FOWNER = 3
CAP_FSETID = 4
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24

# include/linux/proc_ns.h PROC_USER_INIT_INO
INITIAL_USER_NAMESPACE = 0xEFFFFFFD

UNKNOWN_ID = 0xFFFFFFFF

# Real, effective, saved, filesystem.
_FILESYSTEM_ID = 3


class Credentials:
    """The rights of thread `pid`, whose filesystem ids are `gid` and `uid`, if those are known.

    They are read from /proc when a method is called.  A thread that has ended, or is in a
    PID namespace that we cannot see, has none.
    """

    __slots__ = ("gid", "pid", "uid")

    def __init__(self, pid: int, gid: int, uid: int = UNKNOWN_ID) -> None:
        self.pid = pid
        self.gid = gid
        self.uid = uid

    def keeps_suid(self) -> bool:
        """Tell whether the thread has CAP_FSETID in the initial user namespace."""
        return self._has(CAP_FSETID)

    def sees_trusted(self) -> bool:
        """Tell whether the thread has CAP_SYS_ADMIN in the initial user namespace."""
        return self._has(CAP_SYS_ADMIN)

    def owns(self, uid: int) -> bool:
        """Tell whether the thread is user `uid`, or has CAP_FOWNER over the files of that user.

        Source: fs/inode.c:inode_owner_or_capable().
        """
        if uid == self.uid:
            return True
        try:
            if self.uid == UNKNOWN_ID and self._status(b"Uid")[_FILESYSTEM_ID] == b"%d" % uid:
                return True
            effective = int(self._status(b"CapEff")[0], 16)
            return bool(effective & 1 << CAP_FOWNER) and self._maps(uid)
        except (OSError, IndexError, ValueError):
            return False

    def _maps(self, uid: int) -> bool:
        """Tell whether the user namespace of the thread has `uid`, an id of ours."""
        theirs = os.stat(f"/proc/{self.pid}/ns/user").st_ino
        if theirs == os.stat("/proc/self/ns/user").st_ino:
            return True
        with open(f"/proc/{self.pid}/uid_map", "rb") as file:
            ranges = [tuple(map(int, line.split())) for line in file]
        return any(outside <= uid < outside + count for _, outside, count in ranges)

    def _has(self, capability: int) -> bool:
        try:
            if os.stat(f"/proc/{self.pid}/ns/user").st_ino != INITIAL_USER_NAMESPACE:
                return False
            effective = int(self._status(b"CapEff")[0], 16)
        except (OSError, IndexError):
            return False
        return bool(effective & 1 << capability)

    def is_member(self, gid: int) -> bool:
        """Tell whether `gid` is the thread's filesystem group or one of its supplementary ones."""
        if gid == self.gid:
            return True
        wanted = b"%d" % gid
        try:
            if self.gid == UNKNOWN_ID and self._status(b"Gid")[_FILESYSTEM_ID] == wanted:
                return True
            return wanted in self._status(b"Groups")
        except (OSError, IndexError):
            return False

    def _status(self, key: bytes) -> list[bytes]:
        with open(f"/proc/{self.pid}/status", "rb") as file:
            for line in file:
                name, _, value = line.partition(b":")
                if name == key:
                    return value.split()
        return []
