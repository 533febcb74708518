"""Write data back before its name: sync_file_range(2), and when that is enough.

Source: sync_file_range(2); Documentation/admin-guide/ext4.rst "data=", "auto_da_alloc".
"""

from __future__ import annotations

import ctypes
import os

from unionfs.syscalls.libc import fail, libc
from unionfs.syscalls.statfs import BTRFS, RAMFS, TMPFS, XFS, filesystem_type

_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_WRITE_AND_WAIT = 1 | _WRITE | 4  # SYNC_FILE_RANGE_WAIT_BEFORE, _WAIT_AFTER

_KEEP_ORDER = (XFS, BTRFS, TMPFS, RAMFS)

_sync_file_range = libc.sync_file_range
_sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def begin_write_back(fd: int, offset: int = 0, length: int = 0) -> None:
    """Begin to write data of `fd`, so that `write_back` or fsync(2) waits less.

    Its `length` is in bytes, 0 for all from `offset` on.
    """
    if _sync_file_range(fd, offset, length, _WRITE) != 0:
        raise fail()


def write_back(fd: int) -> None:
    """Write the data of `fd`, but not its metadata, and wait until it is written."""
    if _sync_file_range(fd, 0, 0, _WRITE_AND_WAIT) != 0:
        raise fail()


def is_ordered(fd: int) -> bool:
    """Tell whether written data survives every crash that a later rename survives.

    The filesystem is that of `fd`.  True for ext4 with a journal, unless it is mounted
    data=writeback: at the end of a write the blocks are entered into the journal, and a
    later rename is committed with them or after them, after a flush of the disk's cache.
    The caller must wait for the end of the write: blocks that are allocated but not yet
    written read as zeros.  False if the mount options cannot be read.
    """
    options = _ext4_options(fd)
    return "data=ordered" in options or "data=journal" in options


def is_journalled(fd: int) -> bool:
    """Tell whether a rename survives a crash only with all earlier changes of inodes and names.

    The filesystem is that of `fd`.  True for those known to do so: ext4 with a journal, XFS,
    btrfs, and those in memory, of which nothing survives.  ext4 without a journal writes
    each block when it likes, also that of an inode long before its last change.
    """
    if filesystem_type(fd) in _KEEP_ORDER:
        return True
    return any(option.startswith("data=") for option in _ext4_options(fd))


def _ext4_options(fd: int) -> list[str]:
    """Return the mount options of the ext4 of `fd`, with data= only if it has a journal.

    Empty if it is no ext4, or they cannot be read.
    """
    dev = os.fstat(fd).st_dev
    try:
        # A link to the device's directory, whose name ext4 uses in /proc.
        name = os.path.basename(os.readlink(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}"))
        with open(f"/proc/fs/ext4/{name}/options") as file:
            return file.read().split()
    except OSError:
        return []
