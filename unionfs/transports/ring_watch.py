"""When the threads of the rings leave SCHED_IDLE: while the CPUs are busy."""

from __future__ import annotations

import time

from unionfs.transports.policy import LOOKS, Delay, Watched

# With less than this part of a CPU the process has nothing to do.
_RESTING = 0.02


class RingWatch(Watched):
    """Looks how late its own thread is woken, since that of a ring stays on one CPU."""

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

    def _sleep(self) -> None:
        with self._changed:
            self.asleep = True
            while self.asleep and not self._ended:
                self._changed.wait()
