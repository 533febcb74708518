"""Data written before its name: sync_file_range(2), and where that is enough.

Source: sync_file_range(2); Documentation/admin-guide/ext4.rst "data=", "auto_da_alloc".
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from unionfs.syscalls.libc import fail, libc

_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_WRITE_AND_WAIT = 1 | _WRITE | 4  # SYNC_FILE_RANGE_WAIT_BEFORE, _WAIT_AFTER

_sync_file_range = libc.sync_file_range
_sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def begin_write_back(fd: int) -> None:
    """Begin to write the data of `fd`; `write_back` then has less to wait for."""
    if _sync_file_range(fd, 0, 0, _WRITE) != 0:
        raise fail()


def write_back(fd: int) -> None:
    """Write the data of `fd`, and wait until it is written; its metadata is not waited for."""
    if _sync_file_range(fd, 0, 0, _WRITE_AND_WAIT) != 0:
        raise fail()


def is_ordered(fd: int) -> bool:
    """Tell whether on the filesystem of `fd` data that was written is there when a later name is.

    So it is on ext4 with a journal, unless that is mounted data=writeback: the end
    of a write enters the blocks into the journal, and a rename thereafter is
    committed with them or after them, the disk's cache flushed before.  It has to
    be waited for: blocks only given, and not yet written, read as zeros.  False
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
