"""Operations on the extents of open files: allocation, holes, copies within the union.

Source: fallocate(2), lseek(2), copy_file_range(2).
"""

from __future__ import annotations

import errno
import os

from unionfs.core.file import Handle, current_fd
from unionfs.core.state import State
from unionfs.errors import fs_error
from unionfs.syscalls.fallocate import fallocate as real_fallocate
from unionfs.syscalls.lowered import keeping_suid


def fallocate(state: State, handle: Handle, mode: int, offset: int, length: int) -> None:
    """Allocate or deallocate a range of a file open for writing."""
    _require_writable(handle)
    fd = current_fd(state, handle)
    with keeping_suid(fd):
        real_fallocate(fd, mode, offset, length)


def lseek(state: State, handle: Handle, offset: int, whence: int) -> int:
    """Return the offset of the next data or hole; ENXIO after the last.

    This changes the file position of the fd, which nothing else uses.
    """
    return os.lseek(current_fd(state, handle), offset, whence)


def copy_range(
    state: State, source: Handle, offset: int, target: Handle, target_offset: int, length: int
) -> int:
    """Copy between two open files in the kernel; return the number of bytes copied."""
    _require_writable(target)
    src, dst = current_fd(state, source), current_fd(state, target)
    with keeping_suid(dst):
        return os.copy_file_range(src, dst, length, offset, target_offset)


def _require_writable(handle: Handle) -> None:
    if not handle.writable:
        raise fs_error(errno.EBADF)
