"""Making the control socket of a mount.

The socket is made before the mount is live; `control_server` serves it after that.

Source: unix(7); proc_pid_fd(5).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from unionfs import light_socket as socket
from unionfs.errors import fs_error

_BACKLOG = 16  # clients that may wait to be accepted


def listen(path: str) -> socket.socket:
    """Return a socket listening at `path`, for its owner only; a dead one there is replaced.

    The caller closes it.  Raises `OSError`: EADDRINUSE if another mount answers there,
    EEXIST if the file there is not a socket.
    """
    place = Path(path)
    parent = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # sun_path takes 108 bytes; this address is short however long the path is.
        address = f"/proc/self/fd/{parent}/{place.name}"
        _clear(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), 0o600)  # the mode of the file that bind(2) makes
            listener.bind(address)
            listener.listen(_BACKLOG)
            return listener
        except BaseException:
            listener.close()
            raise
    finally:
        os.close(parent)


def _clear(address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # a mount with more clients than it accepts at once
        except ConnectionRefusedError:
            # Any kind of file refuses, and only a socket is ours to replace.
            if stat.S_ISSOCK(os.lstat(address).st_mode):
                os.unlink(address)
                return
            raise fs_error(errno.EEXIST, address) from None
    raise fs_error(errno.EADDRINUSE, address)
