"""Let the kernel remove child processes when they end, so that nobody waits for them.

Source: sigaction(2) "SA_NOCLDWAIT".  Unlike to ignore SIGCHLD, which a child inherits and
/proc/PID/status shows, this leaves the action of the signal the default one.
"""

from __future__ import annotations

import struct

from unionfs.light_signal import signal
from unionfs.syscalls.libc import fail, libc

_ACTION = struct.Struct("@P128siP")  # struct sigaction of the C library, and its sigset_t
_NO_CHILD_WAIT = 2  # SA_NOCLDWAIT


def keep_no_zombies() -> None:
    """Let the kernel remove each child that ends; `waitpid` then fails with ECHILD.

    `signal.signal(SIGCHLD, …)` undoes it.  Raises OSError.
    """
    default = _ACTION.pack(0, b"", _NO_CHILD_WAIT, 0)
    if libc.sigaction(signal.SIGCHLD, default, None):
        raise fail()
