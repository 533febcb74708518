"""Creating files for another user: the filesystem ids of one thread.

A file made under the caller's fsuid and fsgid belongs to the caller from its
first moment, with the set-group-id and ACL rules of its directory applied by
the filesystem itself; with a chown afterwards instead, a daemon that dies between
the two would leave a file of root behind.

Source: setfsuid(2), capabilities(7) "SECBIT_NO_SETUID_FIXUP".
"""

from __future__ import annotations

import ctypes
import os

from unionfs.syscalls.libc import libc_held

_PR_GET_SECUREBITS = 27
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2

_prctl = libc_held.prctl
_prctl.argtypes = [ctypes.c_int, *([ctypes.c_ulong] * 4)]
_setfsuid = libc_held.setfsuid
_setfsuid.argtypes = [ctypes.c_uint]
_setfsgid = libc_held.setfsgid
_setfsgid.argtypes = [ctypes.c_uint]


def keep_capabilities() -> bool:
    """Let this thread keep its capabilities whatever its fsuid is; tell whether that is possible.

    That takes CAP_SETPCAP.  Children inherit it, and keep capabilities after they have given
    up root: the thread should start no program.
    """
    bits = _prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0)
    if bits < 0:
        return False
    kept = bits | _SECBIT_NO_SETUID_FIXUP
    return bool(kept == bits or _prctl(_PR_SET_SECUREBITS, kept, 0, 0, 0) == 0)


class FsIds:
    """A context in which this thread creates files as `uid`:`gid`.

    Enter and leave it in one thread, around one system call.  The thread keeps its
    capabilities under the other fsuid if it has CAP_SETPCAP.  The securebit for that
    is set only inside the context, unless the thread has it anyway: children inherit it,
    and would keep capabilities after they gave up root.
    """

    __slots__ = ("_bits", "_kept", "gid", "own_gid", "own_uid", "uid")

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid
        self.own_uid = os.geteuid()
        self.own_gid = os.getegid()
        self._bits = 0
        self._kept = False

    def __enter__(self) -> None:
        self._bits = _prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0)
        kept = self._bits | _SECBIT_NO_SETUID_FIXUP
        self._kept = (
            self._bits >= 0
            and kept != self._bits
            and _prctl(_PR_SET_SECUREBITS, kept, 0, 0, 0) == 0
        )
        _setfsgid(self.gid)
        _setfsuid(self.uid)

    def __exit__(self, *_: object) -> None:
        _setfsuid(self.own_uid)
        _setfsgid(self.own_gid)
        if self._kept:
            _prctl(_PR_SET_SECUREBITS, self._bits, 0, 0, 0)
