"""Requests that wait for a disk or another machine, each on its own worker thread.

There are as many threads as the kernel is likely to send such requests at once, so no
request waits for the copy_up or fsync of another.  A request whose caller is killed
stops at the next step at which that is safe.

A call into a layer on a network or FUSE filesystem may never return, and no signal ends
it.  So a `Job` can be answered before it is done: when its caller is killed, the caller
gets EINTR, and what the job does after that is undone.  The kernel interrupts a
request once, at the first signal, but a later signal may be the one that kills.  So a
thread watches the callers of jobs.
"""

from __future__ import annotations

import os
import threading
import time
from _queue import SimpleQueue  # the module queue imports more, and makes classes
from collections.abc import Callable
from contextlib import suppress

from unionfs.interrupts import Caller, working_for
from unionfs.light_logging import Logger
from unionfs.light_typing import Protocol

log = Logger(__name__)

_WORKERS = 64
MOST_JOBS = 1024  # served at the same time; the callers of further jobs wait, and can be killed
_LOOK_S = 0.25  # how often to see whether the callers of jobs are being killed
_IDLE_LOOKS = 20
# An interrupted caller in a pid namespace that this process cannot see counts as killed
# after this time.
_UNSEEN_S = 2.0
_MOST_EARLY = 1024
PATIENCE_S = 3.0  # how long an unmount waits for a layer that may not answer


class Job(Protocol):
    """A request that may be answered before it is done."""

    def serve(self) -> None:
        """Serve the request, and keep the reply for `reply`."""
        ...

    def reply(self) -> None:
        """Send the reply."""
        ...

    def give_up(self) -> None:
        """Answer EINTR, while `serve` may be running."""
        ...

    def take_back(self) -> None:
        """Undo what `serve` did, because the kernel was answered EINTR."""
        ...


class Workers:
    """Threads that each run one task at a time.

    They are daemon threads, so a task that never returns does not keep the process alive.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._cpus = os.sched_getaffinity(0)
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def submit(self, task: Callable[[], None]) -> None:
        """Call `task` in an idle thread, or in a new one if there is none."""
        self._tasks.put(task)
        if self._idle.acquire(blocking=False):
            return
        with self._lock:
            count = len(self._threads)
            if count == self._most:
                return
            name = f"fuse-worker-{count}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            # A thread starts on the CPUs of the one that started it, which may be pinned.
            os.sched_setaffinity(0, self._cpus)
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception:
                log.exception("a request on a worker thread failed")
            del task
            self._idle.release()

    def join(self, patience: float | None = None) -> int:
        """Wait until all tasks are done, at most `patience` seconds; return how many are not."""
        with self._lock:
            threads = list(self._threads)
        for _ in threads:
            self._tasks.put(None)
        end = None if patience is None else time.monotonic() + patience
        for thread in threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return sum(thread.is_alive() for thread in threads)


class _Pending:
    """A request under way: its caller, and how to answer it early."""

    __slots__ = ("caller", "give_up", "told")

    def __init__(self, caller: Caller, give_up: Callable[[], None]) -> None:
        self.caller = caller
        self.give_up = give_up
        self.told = 0.0  # when the kernel interrupted it

    def is_abandoned(self, now: float) -> bool:
        """Tell whether the caller is being killed."""
        caller = self.caller
        if not caller.pid:
            return self.told > 0 and now - self.told > _UNSEEN_S
        return caller.is_killed()


def _go_on() -> None:
    """Do nothing: for a request that cannot be answered early."""


class Deferred:
    """The requests under way on worker threads, by their unique.

    `may_hang` says that a layer of the union may stop answering.
    """

    def __init__(self, *, may_hang: bool = False) -> None:
        self._may_hang = may_hang
        self._workers = Workers(MOST_JOBS if may_hang else _WORKERS)
        self._pending: dict[int, _Pending] = {}
        self._lock = threading.Lock()
        self._early: set[int] = set()  # interrupts read before their requests were submitted
        self._watching = False
        self._look = threading.Event()

    def submit(self, unique: int, pid: int, serve: Callable[[], None]) -> None:
        """Call `serve`, for request `unique` of the thread `pid`, in a worker."""
        caller = Caller(pid)
        self._pending[unique] = _Pending(caller, _go_on)

        def run() -> None:
            with working_for(caller):
                try:
                    serve()
                finally:
                    del self._pending[unique]

        self._workers.submit(run)

    def submit_job(self, unique: int, pid: int, job: Job) -> None:
        """Serve `job`, which is request `unique` of the thread `pid`, in a worker."""
        pending = _Pending(Caller(pid), job.give_up)
        with self._lock:
            self._pending[unique] = pending
            if unique in self._early:
                self._early.discard(unique)
                pending.caller.interrupted, pending.told = True, time.monotonic()
            start, self._watching = not self._watching, True
        if start:
            threading.Thread(target=self._watch, name="fuse-watcher", daemon=True).start()

        def run() -> None:
            if unique not in self._pending:
                return  # given up before it began
            with working_for(pending.caller):
                job.serve()
            if self._pending.pop(unique, None) is not None:
                job.reply()
            else:
                job.take_back()

        self._workers.submit(run)

    def interrupt(self, unique: int) -> None:
        """Note that the caller of request `unique` got a signal."""
        with self._lock:
            pending = self._pending.get(unique)
            if pending is not None:
                pending.caller.interrupted, pending.told = True, time.monotonic()
            elif self._may_hang:
                if len(self._early) == _MOST_EARLY:
                    self._early.clear()  # of requests that were answered
                self._early.add(unique)
        self._look.set()

    def _watch(self) -> None:
        """Give up jobs whose callers are being killed; return if there is no job for a while."""
        idle = 0
        while True:
            with self._lock:
                jobs = list(self._pending.items())
                idle = 0 if jobs else idle + 1
                if idle == _IDLE_LOOKS:
                    self._watching = False
                    return
            now = time.monotonic()
            for unique, pending in jobs:
                # The thread that removes it from the table answers it: this one or the worker.
                if pending.is_abandoned(now) and self._pending.pop(unique, None) is not None:
                    pending.give_up()
            self._look.wait(_LOOK_S)
            self._look.clear()

    def join(self) -> None:
        """Wait until all requests are answered.

        If a layer may have stopped answering, wait only a few seconds; the remaining
        requests end with the process.
        """
        left = self._workers.join(PATIENCE_S if self._may_hang else None)
        if left:
            log.warning("%d requests wait for a layer that does not answer; they are left", left)
