"""The process at the other end of a Unix socket: is it one of this machine, or of a container?

Decided here and only here: who is a stranger.  A container in which the store is bound, even
read-only, reaches the sockets in it, and its root is user 0 for the kernel as the machine's is.
A process in another PID namespace than ours and with another root is such a stranger; the stage
of a build has our root, and a command in a chroot is in our PID namespace.

Source: unix(7) SO_PEERCRED; SO_PEERPIDFD, in Linux since 6.5; proc(5) "NSpid", "fdinfo".
"""

from __future__ import annotations

import os
import struct

from mount_tools.daemon.detach import ended_within
from unionfs import light_socket as socket

_SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("=iII")


def is_stranger(connection: socket.socket) -> bool:
    """Tell whether a process of a container is at the other end, or one that has ended."""
    try:
        pidfd = _pidfd_of(connection)
    except OSError:
        return True
    try:
        return _is_stranger(pidfd)
    except OSError:
        return True
    finally:
        os.close(pidfd)


def _pidfd_of(connection: socket.socket) -> int:
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return os.pidfd_open(_CREDENTIALS.unpack(data)[0])  # EINVAL for 0, which we cannot see


def _is_stranger(pidfd: int) -> bool:
    # Not /proc/PID/status, which another process has once the pid is free.
    theirs, ours = (_pids(f"/proc/self/{name}") for name in (f"fdinfo/{pidfd}", "status"))
    if int(theirs[0]) <= 0:
        return True  # it has ended
    if len(theirs) == len(ours):
        return False
    try:
        root = os.stat(f"/proc/{int(theirs[0])}/root")
    except PermissionError:
        # That of an ordinary user's stage, which has run no program in its user namespace.  Each
        # program of a container has, and its owner may look at it.
        return False
    return ended_within(pidfd, 0) or not os.path.samestat(root, os.stat("/"))


def _pids(path: str) -> list[bytes]:
    """Return the pids of a process in our PID namespace and in those within, to its own."""
    with open(path, "rb") as file:
        return file.read().partition(b"\nNSpid:")[2].partition(b"\n")[0].split() or [b"-1"]
