"""fsync(2) that goes on while the caller does something else: the kernel's own AIO.

The kernel runs each in a thread of its own, all at the same time, so the disk is told once
to empty its cache for several of them.

Source: io_setup(2), io_submit(2), io_getevents(2), io_destroy(2); linux/aio_abi.h;
fs/aio.c:aio_fsync().
"""

from __future__ import annotations

import ctypes
import errno
import os
from struct import Struct

from unionfs.syscalls.libc import fail, libc

_NUMBERS = {"x86_64": (206, 207, 208, 209)}
_GENERIC = (0, 1, 4, 2)  # aarch64, riscv64, loongarch64
_NR_SETUP, _NR_DESTROY, _NR_GETEVENTS, _NR_SUBMIT = _NUMBERS.get(os.uname().machine, _GENERIC)

_FSYNC = 2  # IOCB_CMD_FSYNC
# data, key, rw_flags, opcode, priority, fd, buffer, length, offset, reserved, flags, eventfd
_IOCB = Struct("=QIIHhiQQqQII")
# data, the iocb, result, a second result
_EVENT = Struct("=QQqq")

# A separate object without a prototype, which would double the cost of a call.
_syscall = libc["syscall"]


class Syncs:
    """Up to `most` files being written to disk, each under a number of the caller's.

    Any thread may call a method, but none while `close` runs.
    """

    def __init__(self, most: int) -> None:
        """Raises ENOSYS on a kernel without AIO, EAGAIN if the machine has too many of these."""
        self._most = ctypes.c_long(most)
        context = ctypes.c_ulong()
        if libc.syscall(_NR_SETUP, ctypes.c_uint(most), ctypes.byref(context)) != 0:
            raise fail()
        self._context = context

    def begin(self, files: list[tuple[int, int]]) -> int:
        """Begin the fsync(2) of each fd with its number; return how many of them have begun.

        They are the first of `files`, and their fds may be closed after that.  Not all begin if
        `most` are under way, or if their ends were not taken by `ended`.  Raises the error of
        the first if none has begun.
        """
        controls = ctypes.create_string_buffer(_IOCB.size * len(files))
        at = ctypes.addressof(controls)
        for place, (fd, number) in enumerate(files):
            begin = place * _IOCB.size
            _IOCB.pack_into(controls, begin, number, 0, 0, _FSYNC, 0, fd, 0, 0, 0, 0, 0, 0)
        all_of_them = (ctypes.c_void_p * len(files))(*range(at, at + len(controls), _IOCB.size))
        begun: int = _syscall(_NR_SUBMIT, self._context, ctypes.c_long(len(files)), all_of_them)
        if begun < 0:
            raise fail()
        return begun

    def ended(self, least: int) -> list[tuple[int, int]]:
        """Wait for `least` of them; return the number of each that has ended, and its errno or 0.

        Each end is returned once.  A signal may end the wait early.
        """
        most = self._most
        events = ctypes.create_string_buffer(_EVENT.size * most.value)
        count = _syscall(_NR_GETEVENTS, self._context, ctypes.c_long(least), most, events, None)
        if count < 0:
            if ctypes.get_errno() == errno.EINTR:
                return []
            raise fail()
        found = (_EVENT.unpack_from(events, at * _EVENT.size) for at in range(count))
        return [(number, -result) for number, _, result, _ in found]

    def close(self) -> None:
        """Wait for those under way, and forget their ends."""
        _syscall(_NR_DESTROY, self._context)
