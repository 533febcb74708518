"""When the threads of the rings leave SCHED_IDLE: while the CPUs are busy."""

from __future__ import annotations

import threading
import time

from unionfs.transports import policy as policies
from unionfs.transports.policy import LOOKS, Delay, Policy

# With less than this part of a CPU the process has nothing to do.
_RESTING = 0.02


class RingWatch:
    """Looks how late its own thread is woken, since that of a ring stays on one CPU.

    `asleep` says that nobody looks, as there are no requests; who serves one then calls
    `rouse`.
    """

    def __init__(self) -> None:
        self.asleep = False
        self.policy = Policy()
        self._changed = threading.Condition()
        self._ended = False

    def watch(self) -> None:
        """Leave SCHED_IDLE while the CPUs are busy; return at the end."""
        policy, idle = self.policy, True
        while not self._ended:
            delay, spent, since = Delay(), time.process_time(), time.monotonic()
            for _ in range(LOOKS):
                self._pause()
            if not idle and policy.is_over():
                policy.be_idle()
                idle = True
            elif idle and delay.shows_busy_cpus():
                policy.leave_idle()
                idle = False
            elif idle and time.process_time() - spent < _RESTING * (time.monotonic() - since):
                self._sleep()

    def rouse(self) -> None:
        """Go on to watch."""
        with self._changed:
            self.asleep = False
            self._changed.notify_all()

    def end(self) -> None:
        """Let `watch` return."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _pause(self) -> None:
        with self._changed:
            if not self._ended:
                self._changed.wait(policies.LOOK_S)

    def _sleep(self) -> None:
        with self._changed:
            self.asleep = True
            while self.asleep and not self._ended:
                self._changed.wait()
