"""Marks that have to be on disk before the name that depends on them.

Decided here and only here: when a mark takes an fsync(2).  An opaque directory that a crash
robbed of its mark would show what was deleted in the layers beneath, a renamed one without its
redirect would be empty, and a whiteout without its own would be a file.  A journal has a mark
before a later name.  Without one, the block of an inode may be on disk long before its last
change, and the block with its name right after that.

Marks that only tell st_ino, `origin` and `impure`, are not waited for.

Source: Documentation/filesystems/ext4/journal.rst; fs/ext4/fsync.c:ext4_fsync_nojournal().
"""

from __future__ import annotations

import errno
import os

from unionfs.core.layer import Fd, open_regular
from unionfs.core.metadata import set_mark
from unionfs.core.state import State
from unionfs.core.whiteout import make_xattr_whiteout
from unionfs.core.workdir import WorkDir


def waits_for_marks(state: State) -> bool:
    """Tell whether a mark has to be written to disk before the name that depends on it."""
    writable = state.writable
    return writable is not None and not (writable.upper.journalled or state.config.volatile)


def secure_marks(state: State, fd: int) -> None:
    """Wait until the marks on the upper file or directory `fd` are on disk, if that has to be.

    Where a filesystem cannot sync a directory, as 9p without dotl, nothing keeps the order.
    """
    if not waits_for_marks(state):
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def mark_before_name(state: State, fd: Fd, attribute: str, value: bytes) -> None:
    """Set a mark on the upper directory `fd`, and have it on disk before what is done next."""
    set_mark((fd, None), attribute, value)
    secure_marks(state, fd)


def stage_xattr_whiteout(state: State, work: WorkDir, name: bytes) -> None:
    """Stage a whiteout of the xattr form as `name`."""
    make_xattr_whiteout(state.marks, work.fd, name)
    if waits_for_marks(state):
        secure_marks(state, open_regular(name, work.fd))
