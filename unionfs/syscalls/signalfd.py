"""signalfd(2): a descriptor that is readable while a blocked signal is pending.

So poll(2) waits for signals and for files at once.  Taking the signal is left to
sigtimedwait(2), which Python has.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from unionfs.syscalls.libc import fail, libc

_WORD = 8 * ctypes.sizeof(ctypes.c_ulong)
_SET = ctypes.c_ulong * (1024 // _WORD)  # as glibc has it
_SFD_NONBLOCK = 0o4000
_SFD_CLOEXEC = 0o2000000

_signalfd = libc.signalfd
_signalfd.argtypes = [ctypes.c_int, ctypes.POINTER(_SET), ctypes.c_int]


def signalfd(signals: Iterable[int]) -> int:
    """Return a descriptor that is readable while one of `signals` is pending."""
    wanted = _SET()
    for number in signals:
        wanted[(number - 1) // _WORD] |= 1 << (number - 1) % _WORD
    fd: int = _signalfd(-1, ctypes.byref(wanted), _SFD_NONBLOCK | _SFD_CLOEXEC)
    if fd < 0:
        raise fail()
    return fd
