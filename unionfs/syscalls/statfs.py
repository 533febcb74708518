"""statfs(2), for the type of a filesystem, which `os.statvfs` leaves out."""

from __future__ import annotations

import ctypes

from unionfs.syscalls.libc import fail, libc

OVERLAYFS = 0x794C7630
ECRYPTFS = 0xF15F

_fstatfs = libc.fstatfs
_fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]


def filesystem_type(fd: int) -> int:
    """Return the magic number of the filesystem of `fd`, as statfs(2) lists them."""
    buffer = (ctypes.c_long * 32)()
    if _fstatfs(fd, buffer) != 0:
        raise fail()
    return buffer[0]
