"""The rights of the thread that asks for something.

Source: capabilities(7) "CAP_FSETID"; xattr(7) "Trusted extended attributes"; proc(5)
"/proc/pid/status".
"""

from __future__ import annotations

import os

CAP_FSETID = 4
CAP_SYS_ADMIN = 21

# include/linux/proc_ns.h PROC_USER_INIT_INO
INITIAL_USER_NAMESPACE = 0xEFFFFFFD

UNKNOWN_ID = 0xFFFFFFFF

# Real, effective, saved, filesystem.
_FILESYSTEM_ID = 3


class Credentials:
    """The rights of thread `pid`, whose filesystem group is `gid`, `UNKNOWN_ID` if that is unknown.

    They are read from /proc when a method is called.  A thread that has ended, or is in a
    PID namespace that we cannot see, has none.
    """

    __slots__ = ("gid", "pid")

    def __init__(self, pid: int, gid: int) -> None:
        self.pid = pid
        self.gid = gid

    def keeps_suid(self) -> bool:
        """Tell whether the thread has CAP_FSETID in the initial user namespace."""
        return self._has(CAP_FSETID)

    def sees_trusted(self) -> bool:
        """Tell whether the thread has CAP_SYS_ADMIN in the initial user namespace."""
        return self._has(CAP_SYS_ADMIN)

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
