"""Whether a thread is in its dynamic loader, to map a library.

ld.so opens a library, maps it and closes it at once, while other readers may keep the
file open for as long as they like.  Both call open(2) in the same way.  The address of the
code that made the system call tells them apart: it lies in the loader, or elsewhere.

Source: proc(5) "/proc/pid/syscall", "/proc/pid/auxv"; getauxval(3) AT_BASE.
"""

from __future__ import annotations

import os
import struct
from time import monotonic

# A thread that did not load what it opened so many times in a row is not looked at for so long.
SURE, SURE_S = 8, 1.0

_AT_BASE = 7

# Bytes from AT_BASE on that hold the code of any loader (glibc's has 0.2 MiB, musl's,
# which is its libc too, 0.7).  The kernel maps the stack and the vDSO above it.
_LOADER_SIZE = 1 << 20

_NATIVE = struct.Struct("=QQ")
_COMPAT = struct.Struct("=II")
_AUXV_SIZE = 1024


class StillRunning(Exception):
    """The thread still runs: it has not yet begun to wait in its system call."""


def is_loading(pid: int) -> bool:
    """Tell whether thread `pid`, which waits in a system call, made it from its dynamic loader.

    Returns False if /proc does not show the thread to us, and for a program without a loader.
    Raises `StillRunning` if the thread does not wait yet.
    """
    try:
        call = _read(pid, b"syscall", 256)
        if call.startswith(b"running"):
            raise StillRunning
        base = loader_base(_read(pid, b"auxv", _AUXV_SIZE))
    except OSError:
        return False
    return base != 0 and 0 <= int(call.rpartition(b" ")[2], 16) - base < _LOADER_SIZE


class LoaderWatch:
    """Tells whether threads are in their dynamic loader, and looks less at one that reads on.

    A look takes longer than the rest of an open, and a program that reads all files, as tar does,
    opens many libraries and loads none.  If such a program loads one after all, the kernel has
    that library in its page cache once more: nothing else depends on the answer.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        # The thread that was looked at last, how often in a row it did not load, and until when
        # that is enough.  One value, since several threads ask.
        self._last = (-1, 0, 0.0)

    def is_loading(self, pid: int) -> bool:
        """Do as the function `is_loading`, but see above."""
        last, times, until = self._last
        if last != pid:
            times = 0
        elif times >= SURE and monotonic() < until:
            return False
        loading = is_loading(pid)
        self._last = (pid, 0, 0.0) if loading else (pid, times + 1, monotonic() + SURE_S)
        return loading

    def executes(self, pid: int) -> None:
        """Note that thread `pid` is about to execute a program, whose loader comes next."""
        if self._last[0] == pid:
            self._last = (-1, 0, 0.0)


def loader_base(auxv: bytes) -> int:
    """Return the address at which the loader is mapped, 0 if there is none."""
    if len(auxv) < _NATIVE.size:
        return 0  # a kernel thread
    # The first 8 bytes are the type of a 64-bit entry, a small number; or the type and the
    # value of a 32-bit entry, whose value makes the upper half nonzero.
    entry = _NATIVE if _NATIVE.unpack_from(auxv)[0] >> 32 == 0 else _COMPAT
    whole = len(auxv) // entry.size * entry.size
    return next((value for kind, value in entry.iter_unpack(auxv[:whole]) if kind == _AT_BASE), 0)


def _read(pid: int, name: bytes, size: int) -> bytes:
    fd = os.open(b"/proc/%d/%s" % (pid, name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)
