"""Stop a long operation whose caller is being killed.

A transport marks the thread that works on a request with a `Caller`, and sets
`interrupted` there when the kernel interrupts the request.  A long operation calls
`stop_if_abandoned` between two steps, where it is safe to stop.

Only a killed caller counts: programs do not expect open(2) to fail with EINTR
because of a SIGCHLD.  The kernel interrupts a request once, at the first signal,
but a later signal may be the one that kills.  It loses an interrupt that comes while a ring
of io_uring takes the request, so after a while a caller is looked at without one.

Source: overlayfs asks the same, copy_up.c:ovl_copy_up_file(); fs/fuse/dev.c
request_wait_answer(); signal(7): a fatal signal becomes a pending SIGKILL.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from unionfs.errors import fs_error
from unionfs.light_signal import signal

_KILLED = 1 << signal.SIGKILL - 1
UNTOLD_S = 1.0  # how long to rely on an interrupt, and then how often to look at the caller


class Caller:
    """The thread `pid` that waits for a request; 0 if our pid namespace does not have it."""

    __slots__ = ("_look_at", "interrupted", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.interrupted = False
        self._look_at = monotonic() + UNTOLD_S

    def is_killed(self) -> bool:
        """Tell whether the caller got a signal, and is about to end by it."""
        if not self.interrupted:
            now = monotonic()
            if now < self._look_at:
                return False
            self._look_at = now + UNTOLD_S
        return self.is_ending()

    def is_ending(self) -> bool:
        """Tell whether the caller has been killed, though the kernel may not have said so."""
        if not self.pid:
            return False
        try:
            with open(f"/proc/{self.pid}/status", "rb") as file:
                status = file.read()
        except OSError:
            return False
        pending = 0
        for word in (b"SigPnd:", b"ShdPnd:"):
            pending |= int(status.partition(word)[2].split(maxsplit=1)[0], 16)
        return bool(pending & _KILLED)


class _Mark(threading.local):
    caller: Caller | None = None


_mark = _Mark()


@contextmanager
def working_for(caller: Caller) -> Iterator[None]:
    """Mark this thread as working for `caller`."""
    _mark.caller = caller
    try:
        yield
    finally:
        _mark.caller = None


def is_interrupted() -> bool:
    """Tell whether the caller of this thread's request got a signal."""
    caller = _mark.caller
    return caller is not None and caller.interrupted


def is_killed() -> bool:
    """Tell whether the caller is being killed, even if the kernel sent no interrupt."""
    caller = _mark.caller
    return caller is not None and caller.is_ending()


def stop_if_abandoned() -> None:
    """Raise EINTR if the caller of this thread's request is being killed."""
    caller = _mark.caller
    if caller is not None and caller.is_killed():
        raise fs_error(errno.EINTR)
