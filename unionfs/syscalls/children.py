"""Let the kernel remove child processes when they end, so that nobody waits for them.

Source: sigaction(2) "SA_NOCLDWAIT".  Unlike to ignore SIGCHLD, which a child inherits and
/proc/PID/status shows, this leaves the action of the signal the default one.
"""

from __future__ import annotations

import ctypes
import signal

from unionfs.syscalls.libc import fail, libc

_NO_CHILD_WAIT = 2  # SA_NOCLDWAIT


class _Action(ctypes.Structure):
    """struct sigaction of the C library; all zeros is the default action."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def keep_no_zombies() -> None:
    """Let the kernel remove each child that ends; `waitpid` then fails with ECHILD.

    `signal.signal(SIGCHLD, …)` undoes it.  Raises OSError.
    """
    action = _Action(flags=_NO_CHILD_WAIT)
    if libc.sigaction(signal.SIGCHLD, ctypes.byref(action), None):
        raise fail()
