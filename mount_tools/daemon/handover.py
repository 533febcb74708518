"""Mount an upper again while the daemon of its last mount is still writing it back.

umount(8) returns when the kernel has unmounted.  The daemon then syncs the upper and empties
the workdir, and until that is done it has both locked with flock(2).  `umount X; mount X`
would find them in use.  So a daemon that is closing announces that with a second lock on the
same directories, a read lock of fcntl(2), which is independent of flock(2).  A new daemon
waits while that lock is held, and a moment longer for a daemon that is about to take it.

The kernel keeps both locks by inode and drops them when the process ends, so neither can be
mistaken for another file's or left behind.

Source: flock(2); fcntl(2) "Open file description locks (non-POSIX)".
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from unionfs.light_logging import Logger

log = Logger(__name__)

GRACE = 1.0  # seconds from the kernel's end of a mount until its daemon has noticed
PATIENCE = 30.0  # seconds; writing much data back to a slow disk takes long
_PAUSE = 0.02  # seconds between two looks

_LOCK = struct.Struct("@hhqqi4x")  # struct flock: l_type, l_whence, l_start, l_len, l_pid


@contextmanager
def announced_closing(directories: Iterable[bytes]) -> Iterator[None]:
    """Announce, until the block ends, that the locks on `directories` will be free soon."""
    with ExitStack() as stack:
        for directory in directories:
            try:
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_RDLCK, 0, 0, 0, 0))
            except OSError as error:
                # A new mount of the upper then fails instead of waiting; this one is unharmed.
                log.debug("cannot announce the end of %r: %s", directory, error)
        yield


def await_predecessor(directory: bytes) -> None:
    """Return when `directory` is not locked, or is locked by a mount that is not closing.

    Raises nothing if `directory` cannot be opened: the open of the union reports that.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        start = time.monotonic()
        while is_locked(fd):
            waited = time.monotonic() - start
            if waited > PATIENCE or (waited > GRACE and not is_closing(fd)):
                return
            time.sleep(_PAUSE)
    finally:
        os.close(fd)


def is_locked(fd: int) -> bool:
    """Tell whether another process has the directory `fd` locked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks on this filesystem, so nobody holds one
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def is_closing(fd: int) -> bool:
    """Tell whether the mount that has the directory `fd` locked announces that it is closing."""
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
    except OSError as error:
        log.debug("cannot tell whether the mount is closing: %s", error)
        return False
    kind: int = _LOCK.unpack(found)[0]
    return kind != fcntl.F_UNLCK
