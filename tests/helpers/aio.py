"""Asynchronous i/o of the kernel: io_submit(2)."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

# linux/aio_abi.h, asm/unistd_64.h
_IO_SETUP, _IO_DESTROY, _IO_GETEVENTS, _IO_SUBMIT = {"x86_64": (206, 207, 208, 209)}.get(
    os.uname().machine, (0, 1, 4, 2)
)
_PWRITE = 1
_IOCB = struct.Struct("=QIiHhIQQqQII")
_EVENT = struct.Struct("=QQqq")

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def call(number: int, *arguments: object) -> int:
    result = int(_syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "of a system call for asynchronous i/o")
    return result


class AsynchronousWriter:
    """Writes `size` bytes from the start of a file on by io_submit(2)."""

    def __init__(self, fd: int, size: int) -> None:
        self.buffer = mmap.mmap(-1, size)
        self._fd = fd
        self._size = size
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self._context = ctypes.c_ulong()
        call(_IO_SETUP, 1, ctypes.byref(self._context))

    def close(self) -> None:
        call(_IO_DESTROY, self._context)

    def write(self, byte: int) -> None:
        """Write `byte` again and again; return when that is done."""
        ctypes.memset(self._address, byte, self._size)
        fields = (0, 0, 0, _PWRITE, 0, self._fd, self._address, self._size, 0, 0, 0, 0)
        iocb = ctypes.create_string_buffer(_IOCB.pack(*fields))
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(iocb))
        assert call(_IO_SUBMIT, self._context, ctypes.c_long(1), pointers) == 1
        event = ctypes.create_string_buffer(_EVENT.size)
        one = ctypes.c_long(1)
        assert call(_IO_GETEVENTS, self._context, one, one, event, None) == 1
        assert _EVENT.unpack(event.raw)[2] == self._size
