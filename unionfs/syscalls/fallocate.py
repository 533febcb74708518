"""fallocate(2) with its modes, which `os.posix_fallocate` does not know."""

from __future__ import annotations

import ctypes

from unionfs.syscalls.libc import fail, libc

_fallocate = libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Allocate, or with `mode` punch, zero, collapse or insert, a range of the open file."""
    if _fallocate(fd, mode, offset, length) != 0:
        raise fail()
