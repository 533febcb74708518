"""What the kernel lets root do to files without write permission, for a daemon that is not root.

Decided here and only here: how the daemon of an ordinary user renames, marks and opens what
belongs to that user but keeps even the user out, such as a directory of mode 0555.  Where
that fails with EACCES, the modes are widened for the owner meanwhile, and put back.  A crash
between these steps leaves a mode that lets the owner do more than before, and nobody else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from unionfs.core.layer import open_path

Place = tuple[int, bytes | None]  # a directory fd and a name in it, or an fd and None

R = TypeVar("R")


def as_owner(operation: Callable[[], R], *places: Place) -> R:
    """Return `operation()`, tried again as the owner of `places` where it gives EACCES."""
    try:
        return operation()
    except PermissionError as error:
        if error.errno != errno.EACCES:
            raise
        with ExitStack() as stack:
            changed = [stack.enter_context(_widened(place)) for place in places]
            if not any(changed):
                raise
            return operation()


@contextmanager
def _widened(place: Place) -> Iterator[bool]:
    """Give the owner of `place` all rights meanwhile; yields whether that changed its mode."""
    fd, name = place
    if name is not None:
        # The operation may give the name to another file.
        fd = open_path(name, fd)
    st = os.stat(fd)
    mode = stat.S_IMODE(st.st_mode)
    wide = mode | (stat.S_IRWXU if stat.S_ISDIR(st.st_mode) else stat.S_IRUSR | stat.S_IWUSR)
    if st.st_uid != os.geteuid() or wide == mode or stat.S_ISLNK(st.st_mode):
        yield False
        return
    path = b"/proc/self/fd/%d" % fd  # the fd may be O_PATH, which fchmod(2) refuses
    os.chmod(path, wide)
    try:
        yield True
    finally:
        os.chmod(path, mode)
