"""The identity of a process: its pid and its start time, which together are unique.

The kernel reuses a pid, so a row that names one counts only while the process
with that pid has the same start time.  The start is one integer: the clock ticks
since boot, and above them some bits of the boot id, so that a row from before a
reboot never counts.

Source: proc_pid_stat(5), field starttime; /proc/sys/kernel/random/boot_id.
"""

from __future__ import annotations

import errno
import functools
import os
import zlib

from unionfs.errors import fs_error
from unionfs.light_typing import NamedTuple

_TICK_BITS = 40
_BOOT_MASK = (1 << 22) - 1


class ProcessId(NamedTuple):
    """One process of this machine."""

    pid: int
    start: int

    def alive(self) -> bool:
        """Tell whether the process still runs; a zombie does not."""
        return process_start(self.pid) == self.start

    def send(self, number: int) -> None:
        """Send it a signal; raises ProcessLookupError if it has ended.

        Never to another process, which may have its pid by now.
        """
        from signal import pidfd_send_signal  # few commands need it

        fd = os.pidfd_open(self.pid)
        try:
            if not self.alive():
                raise fs_error(errno.ESRCH)
            pidfd_send_signal(fd, number)
        finally:
            os.close(fd)

    def of_this_boot(self) -> bool:
        """Tell whether the process was started in the present boot of the machine."""
        return self.start >> _TICK_BITS == _boot_bits()


def process_start(pid: int) -> int | None:
    """Return the start of the process `pid`, None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            line = stat.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may contain anything, even spaces and ")".
    fields = line[line.rindex(b")") + 2 :].split()
    if fields[0] in b"ZX":
        return None
    return _boot_bits() << _TICK_BITS | int(fields[19])


def parent_of(pid: int) -> int:
    """Return the parent of the process `pid`, 0 for one that is not shown to us.

    Raises ProcessLookupError if there is no such process.
    """
    return int(_status(pid, b"PPid:"))


def is_stopped(pid: int) -> bool:
    """Tell whether the process `pid` exists and was stopped, as by SIGSTOP."""
    try:
        return _status(pid, b"State:").startswith(b"T")
    except ProcessLookupError:
        return False


def _status(pid: int, field: bytes) -> bytes:
    """Return a field of /proc/PID/status.  Raises ProcessLookupError without that process."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return next(line[len(field) :].strip() for line in status if line.startswith(field))
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        raise fs_error(errno.ESRCH) from None


def way_in(init: int) -> int:
    """Return the process whose entries in /proc lead into the container of `init`.

    Only root of the machine can read the entries of init.  Its parent has the same mount
    namespace, and the same pid namespace for its children.
    """
    try:
        os.readlink(f"/proc/{init}/ns/mnt")
        return init
    except OSError:
        try:
            return parent_of(init)
        except ProcessLookupError:
            return init


def this_process() -> ProcessId:
    """Return the calling process."""
    pid = os.getpid()
    start = process_start(pid)
    if start is None:
        raise RuntimeError(f"/proc/{pid}/stat is not there; is /proc mounted?")
    return ProcessId(pid, start)


@functools.cache
def _boot_bits() -> int:
    with open("/proc/sys/kernel/random/boot_id", "rb") as boot_id:
        return zlib.crc32(boot_id.read()) & _BOOT_MASK
