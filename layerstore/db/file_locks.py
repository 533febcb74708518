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


def is_at(fd: int, path: Path) -> bool:
    """Tell whether `path` still names the file open as `fd`; asked once it is locked."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False
