"""A container's terminal: a pseudo-terminal of the container's own devpts.

Decided here and only here: that it is one of that devpts, so that its name leads to it in the
container.  Init opens the pair, and the keeper gets the master; a viewer sets the mode of the
user's own terminal.

Source: pty(7), ioctl_tty(2), unix(7) "SCM_RIGHTS"; runc `docs/terminals.md`.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios
from contextlib import suppress

from layerstore.errors import StoreError
from unionfs.syscalls.openat2 import open_in_root

Size = tuple[int, int]
"""Rows and columns."""

_PTMX = os.makedev(5, 2)
_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_FD = struct.Struct("i")


def size_of_ours() -> Size | None:
    """Return the size of the terminal that is our stdout or stdin; None without one."""
    for fd in (1, 0):
        with suppress(OSError, termios.error):
            return termios.tcgetwinsize(fd)
    return None


def open_terminal(root: int, size: Size | None) -> tuple[int, int]:
    """Return master and slave of a new pseudo-terminal of the container with that root."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    place = open_in_root(root, b"dev/pts/ptmx", os.O_PATH)
    try:
        found = os.fstat(place)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX:
            raise StoreError("/dev/pts of the container is no devpts: it has no terminals")
        master = os.open(f"/proc/self/fd/{place}", flags)
    finally:
        os.close(place)
    fcntl.ioctl(master, _TIOCSPTLCK, _FD.pack(0))
    if size is not None:
        termios.tcsetwinsize(master, size)
    # Not opened by its name, which may lead to another terminal by now.
    return master, fcntl.ioctl(master, _TIOCGPTPEER, flags)
