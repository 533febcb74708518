"""The gate, which every request passes so that a freeze can stop all of them.

Decided here and only here: how the threads that serve requests and the thread that
freezes the upper exclude each other.  A thread that serves one request after the other
has a `Lane`, which only that thread marks as busy and free: two stores and a read of
`closed` for each request, no lock.  Other threads enter with `passing`, which takes
a lock; they are about to wait for a disk anyway.

`paused` closes the gate and waits until no thread is inside.  A long operation that
does not depend on the stack of layers (a copy between two files, an fsync) runs
`outside`, so that `paused` does not wait for it.  If threads stay inside for long, the
gate is opened again for a while, so that other requests do not wait for long either.
A request that does not end at all makes `paused` fail, and all others go on.

Threading: with the GIL all threads see a store at once.  A lane is marked before
`closed` is read, and `closed` is set before the lanes are read, so at least one of the
two threads sees the other.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

PATIENCE_NS = 3_000_000  # how long new requests may wait for those that are inside
TRIES = 200  # in the last one the gate stays closed for `STUCK_NS`, if nobody leaves
STUCK_NS = 20_000_000_000  # no request takes that long inside, unless it hangs
_LOOK_S = 20e-6
_PAUSE_S = 1e-3  # grows with each try, up to _LONGEST_S
_LONGEST_S = 20e-3
_WHERE_IT_IS = nullcontext()
_STUCK = "a request to the union does not end"
_NO_ANSWER = "a request waits for a layer that does not answer"


class Lane:
    """One serving thread; `busy` counts the requests that it serves."""

    __slots__ = ("busy",)

    def __init__(self) -> None:
        self.busy = 0


class Gate:
    """The gate of one union.

    `patient` is False for a union in which a request may never end: `paused` then fails
    with EBUSY after `TRIES`, without a long one.
    """

    def __init__(self) -> None:
        self.closed = False
        self.patient = True
        self._lanes: list[Lane] = []
        self._passing = 0
        self._outside = 0
        self._open = threading.Condition()
        self._turn = threading.Lock()
        self._here = threading.local()

    def lane(self) -> Lane:
        """Return a new lane, which only the calling thread may use."""
        lane = Lane()
        with self._open:
            self._lanes.append(lane)
        return lane

    def wait(self, lane: Lane) -> None:
        """Mark a busy `lane` as free until the gate is open.

        A thread that finds the gate `closed` calls this before it begins its request.
        """
        while self.closed:
            lane.busy -= 1
            with self._open:
                while self.closed:
                    self._open.wait()
            lane.busy += 1

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside the gate, in a thread without a lane."""
        with self._open:
            while self.closed:
                self._open.wait()
            self._passing += 1
        self._here.inside = True
        try:
            yield
        finally:
            self._here.inside = False
            with self._open:
                self._passing -= 1

    def outside(self) -> AbstractContextManager[None]:
        """Return a context outside of the gate for a long operation.

        A freeze may have changed the stack after it.  In a thread with a lane, which runs no
        long operation, it does nothing.
        """
        return self._left() if getattr(self._here, "inside", False) else _WHERE_IT_IS

    @contextmanager
    def _left(self) -> Iterator[None]:
        with self._open:
            self._outside += 1
        try:
            yield
        finally:
            with self._open:
                while self.closed:
                    self._open.wait()
                self._outside -= 1

    @contextmanager
    def paused(self) -> Iterator[int]:
        """Keep all threads outside; yield the `time.monotonic_ns` since which they wait.

        One caller at a time; a second one waits for the first.  Raises EBUSY if a
        request does not end.
        """
        with self._turn:
            since = self._close()
            try:
                yield since
            finally:
                self._reopen()

    def _close(self) -> int:
        for attempt in range(TRIES):
            since = time.monotonic_ns()
            with self._open:  # so that no thread of `passing` has looked but not entered
                self.closed = True
            long = self.patient and attempt == TRIES - 1
            last = since + (STUCK_NS if long else PATIENCE_NS)
            while not self._is_empty():
                if time.monotonic_ns() > last:
                    break
                time.sleep(_LOOK_S)
            else:
                return since
            self._reopen()
            time.sleep(min(_PAUSE_S * (attempt + 1), _LONGEST_S))
        raise OSError(errno.EBUSY, _STUCK if self.patient else _NO_ANSWER)

    def _is_empty(self) -> bool:
        if self._passing - self._outside:
            return False
        return not any(lane.busy for lane in self._lanes)

    def _reopen(self) -> None:
        with self._open:
            self.closed = False
            self._open.notify_all()
