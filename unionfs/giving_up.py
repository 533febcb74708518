"""How a long operation learns that nobody waits for it any more.

A transport marks the thread that works on a request with a `Caller`, and says
there when it was killed; what may take long asks `stop_if_abandoned` between
two steps that are safe to stop at.

Only a killed caller counts: an open(2) that fails with EINTR because of some
SIGCHLD is more than programs are prepared for.  Source: overlayfs asks the
same, copy_up.c:ovl_copy_up_file().
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Caller:
    """Who waits for the request a thread is working on."""

    killed = False


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


def stop_if_abandoned() -> None:
    """Raise EINTR where whoever asked for this has been killed."""
    caller = _mark.caller
    if caller is not None and caller.killed:
        raise OSError(errno.EINTR, os.strerror(errno.EINTR))
