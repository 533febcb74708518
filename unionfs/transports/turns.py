"""Which thread reads requests from /dev/fuse, and on which CPU.

With the policy SCHED_IDLE one thread reads.  Only one thread runs Python at a time, and
readers that take turns take the GIL from each other in the middle of a request.  If the
reader waits for a disk, or the CPUs are busy, all threads read for a while, with the policy
SCHED_OTHER if that is allowed: a thread that a disk wakes then runs at once, also a worker.
With another policy than SCHED_IDLE all of them always read.

The reader follows its client to the CPU that this runs on, as far as it has one client and
the policy SCHED_IDLE.  The client then wakes no other CPU, and runs on at once when it is
answered: a CPU that runs only SCHED_IDLE threads counts as idle.  Anywhere else the reader
would be woken on another CPU, as an idle one is preferred.  While data is read or written
through the daemon, the reader is free to run beside its client.

Source: kernel/sched/fair.c:select_task_rq_fair(); fs/fuse/dev.c; proc_pid_stat(5).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from unionfs.gate import Lane
from unionfs.syscalls.scheduling import become_idle, become_normal, run_delay_ns
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Request

# How often to look at the reader while there are requests, and how many looks decide.
LOOK_S = 0.02
_LOOKS = 8
MANY_S = 1.0  # how long all threads read; twice as long if they have to again soon after that
MOST_S = 8.0
SOON_S = 0.5
_LATE_NS = 500_000  # for how long an idle thread waits for a CPU where all of them are busy
# Which part of the time the process has to need the CPU so that one reader is enough.
_BUSY = 0.5

# After how many requests of one client to look where it runs: the first time, and then twice
# as many each time that it has stayed, and half as many when it has not.
FIRST = 2
_LEAST, MOST = 16, 512
# After so many requests of other clients each time, the reader does not follow.
_ALTERNATE = 64
# How many requests a thread reads with another policy before it looks whether that has changed.
_UNLOOKED = 64
_PROCESSOR = 36  # the field in /proc/PID/stat, counted from the first after the name
_DATA = (Opcode.READ, Opcode.WRITE)
# They do not say who has closed the file (fs/fuse/file.c:fuse_prepare_release()).
_OF_NOBODY = (Opcode.RELEASE, Opcode.RELEASEDIR)


class Reader:
    """A thread that reads requests, used by this thread.

    `lane` and `request` say what it is doing.
    """

    def __init__(self, lane: Lane, request: Request) -> None:
        self.lane = lane
        self.request = request
        self.left = FIRST  # requests of `pid` until the next look at it
        self.unlooked = 0  # requests until the next look at the policy
        self.pid = 0
        self._looked_at = 0
        self._stat_fd = -1
        self._interval = _LEAST
        self._changes = 0
        self._cpu = -1  # -1 for any
        self._all = os.sched_getaffinity(0)

    def change_client(self, pid: int) -> None:
        """Note that a request came from another client than the last one."""
        if self.request.opcode in _OF_NOBODY:
            return
        self.pid = pid
        self.left = FIRST
        self._changes += 1
        if self._changes == _ALTERNATE:
            self._move(-1)

    def look(self) -> None:
        """Go where the client is."""
        self._changes = 0
        if self.request.opcode in _DATA:
            self._move(-1)
            self.left = _LEAST
            return
        cpu = self._client_cpu()
        if cpu == self._cpu:
            self._interval = min(MOST, self._interval * 2)
        else:
            self._interval = max(_LEAST, self._interval // 2)
            self._move(cpu)
        self.left = self._interval

    def _client_cpu(self) -> int:
        """Return the CPU on which the client ran last, -1 if it is not to be followed."""
        if os.sched_getscheduler(0) != os.SCHED_IDLE:
            return -1
        try:
            if self._looked_at != self.pid:
                self.close()
                self._stat_fd = os.open(f"/proc/{self.pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
                self._looked_at = self.pid
            data = os.pread(self._stat_fd, 1024, 0)
            return int(data[data.rindex(b")") + 2 :].split()[_PROCESSOR])
        except (OSError, ValueError, IndexError):
            return -1

    def _move(self, cpu: int) -> None:
        if cpu != self._cpu:
            with suppress(OSError):  # the CPU is not one of ours, or offline
                os.sched_setaffinity(0, self._all if cpu < 0 else {cpu})
                self._cpu = cpu

    def close(self) -> None:
        """Stop looking at the client."""
        if self._stat_fd >= 0:
            os.close(self._stat_fd)
            self._stat_fd, self._looked_at = -1, 0


def _try(change: Callable[[], None]) -> None:
    """Change the policy; without /proc, as when a machine is shut down, leave it."""
    with suppress(OSError):
        change()


class _Looks:
    """What some looks at the holder have shown: how often it was busy, or had nothing to do."""

    def __init__(self) -> None:
        self.count = self.busy = self.idle = 0
        self._since, self._spent = time.monotonic(), time.process_time()
        self._waited_ns = run_delay_ns()

    def waited_for_a_disk(self) -> bool:
        """Tell whether the holder was busy, but the process did little."""
        spent, since = time.process_time() - self._spent, time.monotonic() - self._since
        return self.busy >= _LOOKS - 1 and spent < _BUSY * since

    def found_busy_cpus(self) -> bool:
        """Tell whether this thread, which is idle too, was woken late."""
        return run_delay_ns() - self._waited_ns > _LOOKS * _LATE_NS


class Turns:
    """Lets one reader read at a time, its `holder`, or all of them if `many`.

    A reader reads after `wait` has returned, until it is no longer the holder.  `asleep`
    says that nobody looks at the holder; it then calls `rouse`.  With `leaves_idle` the
    process is SCHED_IDLE only while one reader reads.
    """

    def __init__(self) -> None:
        self.holder: Reader | None = None
        self.many = False
        self.asleep = False
        self.leaves_idle = False
        self._until = 0.0
        self._stay = MANY_S
        self._changed = threading.Condition()
        self._ended = False

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

    def end(self) -> None:
        """Let all readers read, which tells them that the connection has ended."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def rouse(self) -> None:
        """Go on to watch."""
        with self._changed:
            self.asleep = False
            self._changed.notify_all()

    def watch(self) -> None:
        """Let all threads read while disks or CPUs have to be waited for; return at the end."""
        looks = _Looks()
        while not self._ended:
            holder = self.holder
            unique = 0 if holder is None else holder.request.unique
            with self._changed:
                if not self._ended:
                    self._changed.wait(LOOK_S)
            if self.many:
                if time.monotonic() > self._until:
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
                if looks.idle == _LOOKS:
                    self._sleep(holder)
                    looks = _Looks()
                continue
            looks.idle = 0
            looks.count += 1
            looks.busy += is_busy
            if looks.count == _LOOKS:
                if looks.waited_for_a_disk() or (self.leaves_idle and looks.found_busy_cpus()):
                    self._let_all_read()
                looks = _Looks()

    def _let_one_read(self) -> None:
        if self.leaves_idle:
            _try(become_idle)
        self.many = False

    def _let_all_read(self) -> None:
        with self._changed:
            self.many, self.holder = True, None
            now = time.monotonic()
            again = now < self._until + SOON_S
            self._stay = min(2 * self._stay, MOST_S) if again else MANY_S
            self._until = now + self._stay
            self._changed.notify_all()
        if self.leaves_idle:
            _try(become_normal)

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
