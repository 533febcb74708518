"""Signs of life, which a client hears while a long request of the control socket is carried out.

Decided here and only here: when such a request goes on.  The kernel knows: its thread uses
processor time, or sleeps and wakes.  A thread in a system call that does not return, or at a
lock that nobody releases, does neither.  Nor does a thread in syncfs(2), while others write:
for one in a disk sleep, what the disk of the upper completes counts too.  A request may wait
for another one, and goes on while that does.

Threading: each request that gives signs has a thread for them.

Source: proc_pid_stat(5), proc_pid_status(5); Documentation/block/stat.rst; /proc/vmstat.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from layerstore.containers.control_protocol import Sign, encode_sign
from unionfs.light_logging import Logger
from unionfs.light_typing import NamedTuple

log = Logger(__name__)

EVERY = 1.0  # seconds
_COMPLETED = (0, 4, 11, 15)  # reads, writes, discards and flushes

Say = Callable[[bytes], None]


class _Work(NamedTuple):
    """What a thread has done; it has gone on if this differs."""

    ticks: int
    switches: int
    on_disk: bool


class SignsOfLife:
    """Gives the signs of life of the requests to one mount."""

    def __init__(self, upper: Callable[[], bytes]) -> None:
        """`upper` returns the upper directory; it is called in other threads."""
        self._upper = upper
        self._lock = threading.Lock()
        self._at_work: list[int] = []

    @contextmanager
    def given(self, say: Say | None) -> Iterator[None]:
        """Give signs of the calling thread's work to `say`, if that is not None.

        The last is given before this ends.  An OSError of `say` ends them.
        """
        if say is None:
            yield
            return
        thread, ended = threading.get_native_id(), threading.Condition()
        over: list[bool] = []

        def tell(sign: Sign) -> bool:
            with ended:
                if not over:
                    say(encode_sign(sign))
                    ended.wait(EVERY)
                return not over

        with self._lock:
            self._at_work.append(thread)
        try:
            threading.Thread(
                target=self._give, args=(thread, tell), name="signs", daemon=True
            ).start()
        except RuntimeError as error:
            log.warning("no thread can be started for signs of life: %s", error)
        try:
            yield
        finally:
            with ended:
                over.append(True)
                ended.notify_all()
            with self._lock:
                self._at_work.remove(thread)

    def _give(self, thread: int, tell: Callable[[Sign], bool]) -> None:
        """Give signs of the work of `thread` to `tell`, until that returns False."""
        try:
            device = os.stat(self._upper()).st_dev
            before: object = None
            since = time.monotonic()
            going_on = True
            while going_on:
                work = self._look(device)
                if work != before:
                    before, since = work, time.monotonic()
                idle_ms = int((time.monotonic() - since) * 1000)
                on_disk = thread in work[0] and work[0][thread].on_disk
                going_on = tell(Sign(idle_ms, "a disk" if on_disk else "another request"))
        except OSError as error:
            log.debug("no more signs of life: %s", error)

    def _look(self, device: int) -> tuple[dict[int, _Work], int]:
        """Return what the threads at work have done, and the disk, if one waits for it."""
        with self._lock:
            threads = list(self._at_work)
        found = {}
        for thread in threads:
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                found[thread] = _work_of(thread)
        waits = any(work.on_disk for work in found.values())
        return found, _completed_by(device) if waits else 0


def _work_of(thread: int) -> _Work:
    """Return what a thread of this process has done."""
    with open(f"/proc/self/task/{thread}/stat", "rb") as file:
        line = file.read()
    # The command's name, in parentheses, may contain anything.
    fields = line[line.rindex(b")") + 2 :].split()
    switches = 0
    with open(f"/proc/self/task/{thread}/status", "rb") as file:
        for line in file:
            if b"voluntary_ctxt_switches:" in line:
                switches += int(line.split()[1])
    return _Work(int(fields[11]) + int(fields[12]), switches, fields[0] == b"D")


def _completed_by(device: int) -> int:
    """Return a count that grows as the disk `device` completes requests.

    A filesystem without a disk of that number (btrfs, NFS) has the count of all that are written.
    """
    try:
        with open(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat", "rb") as file:
            fields = file.read().split()
        return sum(int(fields[at]) for at in _COMPLETED if at < len(fields))
    except FileNotFoundError:
        with open("/proc/vmstat", "rb") as file:
            return next(
                (int(line.split()[1]) for line in file if line.startswith(b"nr_written ")), 0
            )
