"""Read the files that a user names: of variables, of a secret, a profile, a Containerfile.

Decided here and only here: what a command does with a FIFO or a device.  A FIFO is read, since
the shell gives one for `<(command)`; but if no process writes to it, to open it would wait for
ever, and that is an error.  A device may have no end, so callers say how many bytes to read.

Source: fifo(7); pipe(7).
"""

from __future__ import annotations

import errno
import os
import select
import stat


def read_given(path: str, most: int) -> bytes:
    """Return the first `most` bytes of the file `path`.

    Raises OSError, ENXIO for a FIFO that no process writes to.
    """
    return read_opened(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), most)


def read_opened(fd: int, most: int) -> bytes:
    """Return the first `most` bytes of `fd`, which was opened with O_NONBLOCK, and close it.

    Raises OSError as `read_given`.
    """
    begun = b""
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            begun = _begun(fd)
        os.set_blocking(fd, True)
        file = open(fd, "rb")  # noqa: SIM115 - it does not own the fd of a directory
    except BaseException:
        os.close(fd)
        raise
    with file:
        return begun + file.read(most - len(begun))


def _begun(fd: int) -> bytes:
    """Return what was read to find out that the FIFO `fd` has, or had, a writer."""
    looks = select.poll()
    looks.register(fd, select.POLLIN)
    if looks.poll(0):
        return b""
    try:
        begun = os.read(fd, 1)
    except BlockingIOError:
        return b""  # a process has it open, and writes later
    if not begun:
        raise OSError(errno.ENXIO, "it is a FIFO that no process writes to")
    return begun
