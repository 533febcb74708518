"""Requests that wait for a disk, each on a thread of its own.

As many at once as the kernel is likely to send, so that a slow copy_up or
fsync keeps nobody else waiting.  One whose caller is killed stops where it can.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unionfs.giving_up import Caller, working_for

_WORKERS = 64
_KILLED = 1 << signal.SIGKILL - 1


class Deferred:
    """The requests under way on worker threads, by their unique."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(_WORKERS, "fuse-worker")
        self._callers: dict[int, tuple[int, Caller]] = {}

    def submit(self, unique: int, pid: int, serve: Callable[[], None]) -> None:
        """Let a worker call `serve` for request `unique` of the thread `pid`."""
        caller = Caller()
        self._callers[unique] = pid, caller

        def run() -> None:
            with working_for(caller):
                try:
                    serve()
                finally:
                    del self._callers[unique]

        self._workers.submit(run)

    def interrupt(self, unique: int) -> None:
        """Whoever asked for `unique` got a signal; stop where that kills him."""
        pid, caller = self._callers.get(unique, (0, None))
        if caller is not None and pid and _is_killed(pid):
            caller.killed = True

    def join(self) -> None:
        """Wait until the last of them is done."""
        self._workers.shutdown()


def _is_killed(pid: int) -> bool:
    """Tell whether thread `pid` is about to end: a fatal signal becomes a SIGKILL for it."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return False  # not to be seen from this namespace
    pending = 0
    for word in (b"SigPnd:", b"ShdPnd:"):
        pending |= int(status.partition(word)[2].split(maxsplit=1)[0], 16)
    return bool(pending & _KILLED)
