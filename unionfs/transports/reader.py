"""A thread that reads requests from /dev/fuse, and follows its client from CPU to CPU.

It follows as long as it has one client and the policy SCHED_IDLE.  The client then wakes no
other CPU, and runs on at once when it is answered: a CPU that runs only SCHED_IDLE threads
counts as idle.  A reader that does not follow is woken on another CPU, because the kernel
prefers an idle one.  While data is read or written through the daemon, the reader does not
follow, and may run at the same time as its client.

Source: kernel/sched/fair.c:select_task_rq_fair(); fs/fuse/dev.c; proc_pid_stat(5).
"""

from __future__ import annotations

import os
from contextlib import suppress

from unionfs.gate import Lane
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Request

# The number of requests of one client after which to look on which CPU it runs.  The number
# doubles each time that the client has stayed there, and is halved when it has not.
FIRST = 2
_LEAST, MOST = 16, 512
# After so many requests of other clients each time, the reader does not follow.
_ALTERNATE = 64
_PROCESSOR = 36  # the field in /proc/PID/stat, counted from the first after the name
_DATA = (Opcode.READ, Opcode.WRITE)
# These requests do not name the client (fs/fuse/file.c:fuse_prepare_release()).
_OF_NOBODY = (Opcode.RELEASE, Opcode.RELEASEDIR)


class Reader:
    """The state of a thread that reads requests; only that thread uses it.

    `lane` is its place at the gate, and `request` the buffer that it reads into.
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
