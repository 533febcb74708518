"""Drop CAP_FSETID for a moment, in one thread.

Source: capabilities(7) "CAP_FSETID"; capget(2); setfsgid(2).
"""

from __future__ import annotations

import ctypes
import os
import struct
from types import TracebackType

from unionfs.credentials import CAP_FSETID
from unionfs.syscalls.libc import fail, libc_held

_VERSION_3 = 0x20080522
_NOBODY = 0xFFFFFFFE  # the highest group id; (gid_t) -1 means "no change"
_NR_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159}.get(os.uname().machine, 159)

_capget = libc_held.capget
_capget.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_capset = libc_held.capset
_capset.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_setfsgid = ctypes.PyDLL(None).setfsgid
_setfsgid.argtypes = [ctypes.c_uint]
_setgroups = libc_held["syscall"]  # glibc's setgroups() changes every thread
_setgroups.restype = ctypes.c_long
_setgroups.argtypes = [ctypes.c_long, ctypes.c_size_t, ctypes.c_void_p]


class WithoutFsetid:
    """A context in which this thread lacks CAP_FSETID and is in no group that owns files.

    The kernel keeps the credentials of the thread that opens or registers a
    file.  They decide whether a write removes suid and sgid from the file.

    All threads that use one instance have the credentials of the thread that made it.
    Entering raises the `OSError` of capset(2), with nothing changed.
    """

    def __init__(self) -> None:
        self._header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0), 8)
        self._full = ctypes.create_string_buffer(24)
        if _capget(self._header, self._full) != 0:
            raise fail()
        low, *rest = struct.unpack("=6I", self._full.raw)
        lowered = struct.pack("=6I", low & ~(1 << CAP_FSETID), *rest)
        self._lowered = ctypes.create_string_buffer(lowered, 24)
        self._gid = os.getegid()
        groups = os.getgroups()
        self._count = len(groups)
        self._groups = (ctypes.c_uint * max(1, len(groups)))(*groups)

    def __enter__(self) -> None:
        if _capset(self._header, self._lowered) != 0:
            raise fail()
        _setfsgid(_NOBODY)
        if self._count:
            _setgroups(_NR_SETGROUPS, 0, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._count:
            _setgroups(_NR_SETGROUPS, self._count, self._groups)
        _setfsgid(self._gid)
        if _capset(self._header, self._full) != 0:
            raise fail()
