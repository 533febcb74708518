"""Data on its way to the disk: sync_file_range(2), and which filesystems keep data in order.

Source: sync_file_range(2); Documentation/admin-guide/ext4.rst "data=", "auto_da_alloc".
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from unionfs.syscalls.libc import fail, libc

_WRITE = 2  # SYNC_FILE_RANGE_WRITE

_sync_file_range = libc.sync_file_range
_sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def start_writeback(fd: int) -> None:
    """Give the data of `fd` its blocks and begin to write it, without waiting for the disk."""
    if _sync_file_range(fd, 0, 0, _WRITE) != 0:
        raise fail()


def is_ordered(fd: int) -> bool:
    """Tell whether the filesystem of `fd` writes data before the metadata that needs it.

    So does ext4 with a journal, unless it is mounted data=writeback: what was
    given its blocks before a rename is on disk when the rename is.  False
    wherever that cannot be told.
    """
    dev = os.fstat(fd).st_dev
    try:
        # A link to the device's own directory, whose name ext4 goes by.
        name = os.path.basename(os.readlink(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}"))
        options = Path(f"/proc/fs/ext4/{name}/options").read_text()
    except OSError:
        return False
    return not {"data=ordered", "data=journal"}.isdisjoint(options.split())
