"""Which threads read requests from /dev/fuse: one of them, or all.

With the policy SCHED_IDLE one thread reads.  Only one thread runs Python at a time, and
readers that take turns take the GIL from each other in the middle of a request.  If the
reader waits for a disk, or the CPUs are busy, all threads read for a while, with the policy
SCHED_OTHER if that is allowed: a thread that a disk wakes then runs at once, also a worker.
With another policy than SCHED_IDLE all of them always read.
"""

from __future__ import annotations

import os
import time

from unionfs.transports.policy import LOOKS, Delay, Watched
from unionfs.transports.reader import Reader

# Which part of the time the process has to need the CPU so that one reader is enough.
_BUSY = 0.5

# How many requests a thread reads with another policy before it looks whether that has changed.
_UNLOOKED = 64


class _Looks:
    """What some looks at the holder have shown: how often it was busy, or had nothing to do."""

    def __init__(self) -> None:
        self.count = self.busy = self.idle = 0
        self._since, self._spent = time.monotonic(), time.process_time()
        self.delay = Delay()

    def waited_for_a_disk(self) -> bool:
        """Tell whether the holder was busy, but the process did little."""
        spent, since = time.process_time() - self._spent, time.monotonic() - self._since
        return self.busy >= LOOKS - 1 and spent < _BUSY * since


class Turns(Watched):
    """Lets one reader read at a time, its `holder`, or all of them if `many`.

    A reader reads after `wait` has returned, until it is no longer the holder.  While all of
    them read, `policy` is away from SCHED_IDLE.  After `end` all of them read, which tells them
    that the connection has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.holder: Reader | None = None
        self.many = False

    def wait(self, reader: Reader) -> None:
        """Wait until `reader` may read.

        With another policy than SCHED_IDLE all of them read: a reader that cannot follow its
        client is woken on another CPU, and one that has just answered is awake.
        """
        if self.many:
            return
        if reader.unlooked:
            reader.unlooked -= 1
            return
        if os.sched_getscheduler(0) != os.SCHED_IDLE:
            reader.unlooked = _UNLOOKED
            return
        with self._changed:
            while not (self.many or self.holder is None or self._ended):
                self._changed.wait()
            if not self.many:
                self.holder = reader
                self.asleep = False
                self._changed.notify_all()

    def watch(self) -> None:
        """Let all threads read while disks or CPUs have to be waited for; return at the end."""
        looks = _Looks()
        while not self._ended:
            holder = self.holder
            unique = 0 if holder is None else holder.request.unique
            self._pause()
            if self.many:
                if self.policy.is_over():
                    self._let_one_read()
                    looks = _Looks()
                continue
            if self.holder is not holder:
                continue
            if holder is None:
                self._sleep(None)
                looks = _Looks()
                continue
            is_busy = holder.lane.busy
            if holder.request.unique == unique:
                if is_busy:
                    self._let_all_read()
                    continue
                looks.idle += 1
                if looks.idle == LOOKS:
                    self._sleep(holder)
                    looks = _Looks()
                continue
            looks.idle = 0
            looks.count += 1
            looks.busy += is_busy
            if looks.count == LOOKS:
                if looks.waited_for_a_disk() or (
                    self.policy.leaves_idle and looks.delay.shows_busy_cpus()
                ):
                    self._let_all_read()
                looks = _Looks()

    def _let_one_read(self) -> None:
        self.policy.be_idle()
        self.many = False

    def _let_all_read(self) -> None:
        with self._changed:
            self.many, self.holder = True, None
            self._changed.notify_all()
        self.policy.leave_idle()

    def _sleep(self, holder: Reader | None) -> None:
        """Wait until the holder, which has nothing to do, calls `rouse`, or there is one."""
        with self._changed:
            if self.holder is not holder:
                return
            self.asleep = True
            # Read only now: the reader sets it before it reads `asleep`.
            if holder is not None and holder.lane.busy:
                self.asleep = False
            while self.asleep and not self._ended:
                self._changed.wait()
