"""The scheduling policy SCHED_IDLE, which is left for a while when it costs the clients time.

A thread of the policy SCHED_OTHER that a client or a disk wakes runs at once, also on a busy
CPU.  A thread of SCHED_IDLE preempts no other, and waits there for the next tick.

Source: kernel/sched/fair.c:check_preempt_wakeup_fair(); proc_pid_schedstat(5).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from unionfs.syscalls.scheduling import become_idle, become_normal, run_delay_ns

# Seconds between two looks while there are requests, and how many looks decide.
LOOK_S = 0.02
LOOKS = 8
AWAY_S = 1.0  # how long the policy is left; twice as long if that is needed again soon after
MOST_S = 8.0
SOON_S = 0.5
_LATE_NS = 500_000  # how long a SCHED_IDLE thread waits for a CPU if all of them are busy


class Policy:
    """Says until when the process is away from SCHED_IDLE.

    With `leaves_idle` false the time is counted, but the policy stays what it is.
    """

    def __init__(self) -> None:
        self.leaves_idle = False
        self._until = 0.0
        self._away_s = AWAY_S

    def leave_idle(self) -> None:
        """Be SCHED_OTHER for a while."""
        now = time.monotonic()
        again = now < self._until + SOON_S
        self._away_s = min(2 * self._away_s, MOST_S) if again else AWAY_S
        self._until = now + self._away_s
        self._change(become_normal)

    def is_over(self) -> bool:
        """Tell whether it is time to be idle again."""
        return time.monotonic() > self._until

    def be_idle(self) -> None:
        """Be SCHED_IDLE again."""
        self._change(become_idle)

    def _change(self, change: Callable[[], None]) -> None:
        if self.leaves_idle:
            with suppress(OSError):  # without /proc, as when a machine is shut down
                change()


class Delay:
    """How late the calling thread, which is idle itself, was woken since this was made."""

    def __init__(self) -> None:
        self._waited_ns = run_delay_ns()

    def shows_busy_cpus(self) -> bool:
        """Tell so after `LOOKS` looks."""
        return run_delay_ns() - self._waited_ns > LOOKS * _LATE_NS


class Watched:
    """Base of what a thread of its own looks at repeatedly, while there are requests.

    `asleep` says that this thread has stopped to look because no request came.  The next thread
    that serves a request calls `rouse`.
    """

    def __init__(self) -> None:
        self.asleep = False
        self.policy = Policy()
        self._changed = threading.Condition()
        self._ended = False

    def rouse(self) -> None:
        """Let the thread look again."""
        with self._changed:
            self.asleep = False
            self._changed.notify_all()

    def end(self) -> None:
        """Wake all that wait here, for good."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _pause(self) -> None:
        with self._changed:
            if not self._ended:
                self._changed.wait(LOOK_S)
