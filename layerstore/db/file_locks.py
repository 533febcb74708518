"""flock(2) on files and directories that another process may remove or replace.

The kernel lets go of such a lock when its process ends, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def try_lock(fd: int) -> bool:
    """Lock the file open as `fd` for this process alone; False if another has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(fd: int, path: Path | str, folder: int | None = None) -> bool:
    """Tell whether `path` still names the file open as `fd`; asked once it is locked.

    It is beneath the directory open as `folder`, if that is given.
    """
    try:
        named = os.stat(path, dir_fd=folder, follow_symlinks=False)
        return os.path.samestat(os.fstat(fd), named)
    except FileNotFoundError:
        return False
