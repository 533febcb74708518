"""Requests that wait for a disk, each on a thread of its own.

There are as many threads as the kernel is likely to send such requests at once, so
that no request waits for another's copy_up or fsync.  A request whose caller is
killed stops at the next step where that is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from unionfs.interrupts import Caller, working_for

_WORKERS = 64


class Deferred:
    """The requests under way on worker threads, by their unique."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(_WORKERS, "fuse-worker")
        self._callers: dict[int, Caller] = {}

    def submit(self, unique: int, pid: int, serve: Callable[[], None]) -> None:
        """Let a worker call `serve` for request `unique` of the thread `pid`."""
        caller = self._callers[unique] = Caller(pid)

        def run() -> None:
            with working_for(caller):
                try:
                    serve()
                finally:
                    del self._callers[unique]

        self._workers.submit(run)

    def interrupt(self, unique: int) -> None:
        """Note that the caller of request `unique` got a signal."""
        caller = self._callers.get(unique)
        if caller is not None:
            caller.interrupted = True

    def join(self) -> None:
        """Wait until all requests are answered."""
        self._workers.shutdown()
