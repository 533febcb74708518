"""syncfs(2): write back one whole filesystem."""

from __future__ import annotations

from unionfs.syscalls.libc import fail, libc


def syncfs(fd: int) -> None:
    """Write back the filesystem of `fd`; raises its error (EIO, ENOSPC, EDQUOT)."""
    if libc.syncfs(int(fd)) != 0:
        raise fail()
