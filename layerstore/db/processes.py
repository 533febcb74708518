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
from contextlib import suppress

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


class Status(NamedTuple):
    """What /proc/PID/stat says: the process, its parent's pid, and the letter of its state."""

    id: ProcessId
    parent: int
    state: str


def status_of(pid: int) -> Status | None:
    """Return the status of the process `pid`, a zombie too; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            line = stat.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may contain anything, even spaces and ")".
    fields = line[line.rindex(b")") + 2 :].split()
    start = _boot_bits() << _TICK_BITS | int(fields[19])
    return Status(ProcessId(pid, start), int(fields[1]), fields[0].decode())


def process_start(pid: int) -> int | None:
    """Return the start of the process `pid`, None if there is no such process, or a zombie."""
    found = status_of(pid)
    return None if found is None or found.state in "ZX" else found.id.start


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

    Only root of the machine can read the entries of init.  For an ordinary user its parent has
    the same mount namespace, and the same pid namespace for its children.

    Raises ProcessLookupError once init is ending.  It has no namespaces then, but still a parent
    and a start, as long as any process of its pid namespace was not waited for.  That parent may
    be the container's keeper, whose entries lead to this machine.  What is opened by the result
    is the container's only if init is alive after it.
    """
    try:
        os.readlink(f"/proc/{init}/ns/mnt")
        return init
    except PermissionError:
        outer = parent_of(init)
    except OSError:
        raise fs_error(errno.ESRCH) from None
    with suppress(PermissionError, FileNotFoundError):
        children = os.stat(f"/proc/{outer}/ns/pid_for_children")
        if os.path.samestat(children, os.stat("/proc/self/ns/pid")):
            raise fs_error(errno.ESRCH)
    return outer


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
