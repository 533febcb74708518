"""Filters of system calls, made by libseccomp, which knows the calls of every processor.

The library is loaded when the first filter is made, and need not be installed.

Source: seccomp(2); libseccomp's `include/seccomp.h.in`, seccomp_init(3), seccomp_rule_add(3),
seccomp_attr_set(3), seccomp_export_bpf(3).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from functools import cache

from unionfs.light_typing import NamedTuple
from unionfs.syscalls.libc import fail, libc

LIBRARY = "libseccomp.so.2"

ALLOW = 0x7FFF0000
LOG = 0x7FFC0000
TRAP = 0x00030000
KILL_THREAD = 0x00000000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000

COMPARISONS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}

# <linux/prctl.h>, <linux/seccomp.h>, <linux/filter.h>
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_INSTRUCTION = 8  # bytes of a struct sock_filter
_LONGEST_PROGRAM = 4096 * _INSTRUCTION  # BPF_MAXINSNS
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog
_UNKNOWN = -1  # __NR_SCMP_ERROR
_NO_NEW_PRIVILEGES = 3  # SCMP_FLTATR_CTL_NNP


_prctl = libc["prctl"]  # a separate object: other modules declare other types
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]


class Unavailable(Exception):
    """libseccomp is not installed."""


class Condition(NamedTuple):
    """A condition on an argument of a call, counted from 0; `how` is a key of COMPARISONS.

    For MASKED_EQ `value` is the mask and `second` what the masked argument has to be.
    """

    argument: int
    how: str
    value: int
    second: int = 0


# struct scmp_arg_cmp: arg, op, datum_a, datum_b
_COMPARISON = struct.Struct("@IiQQ")


def fail_with(number: int) -> int:
    """Return the action that lets a call fail with that errno."""
    return _ERRNO | number & 0xFFFF


class Filter:
    """A filter that is being made.  It lasts until the process ends."""

    def __init__(self, default: int) -> None:
        """Make one that does `default` with every call.  Raises Unavailable, and OSError."""
        self._library = load_library()
        self._default = default
        self._context = self._library.seccomp_init(default)
        if not self._context:
            raise OSError(errno.EINVAL, "libseccomp makes no such filter")
        # no_new_privileges is the user's to choose.
        _check(self._library.seccomp_attr_set(self._context, _NO_NEW_PRIVILEGES, 0))

    def add_architecture(self, name: str) -> None:
        """Let the filter judge the calls of another architecture too; "x32", "arm"."""
        token = self._library.seccomp_arch_resolve_name(name.encode())
        if token:
            _check(self._library.seccomp_arch_add(self._context, token), errno.EEXIST)

    def add(self, call: str, action: int, conditions: Sequence[Condition] = ()) -> None:
        """Do `action` with the call if all conditions hold.

        A call that the library does not know is left out: the kernel has none of that name.
        """
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number == _UNKNOWN or action == self._default:
            return
        array = b"".join(
            _COMPARISON.pack(one.argument, COMPARISONS[one.how], one.value, one.second)
            for one in conditions
        )
        _check(
            self._library.seccomp_rule_add_array(
                self._context, action, number, len(conditions), array
            ),
            errno.EEXIST,
        )

    def program(self) -> bytes:
        """Return the filter as the kernel takes it, for `load_program`."""
        fd = os.memfd_create("seccomp")
        try:
            _check(self._library.seccomp_export_bpf(self._context, fd))
            return os.pread(fd, _LONGEST_PROGRAM, 0)
        finally:
            os.close(fd)

    def load(self) -> None:
        """Filter the calls of this process from now on, and those of what it starts."""
        load_program(self.program())


def load_program(program: bytes) -> None:
    """Filter the calls of this process from now on, and those of what it starts.

    Raises EACCES without CAP_SYS_ADMIN or no_new_privileges, EINVAL if `program` is no filter or
    the kernel has none.  Needs no library.
    """
    held = ctypes.create_string_buffer(program, len(program))
    words = _PROGRAM.pack(len(program) // _INSTRUCTION, ctypes.addressof(held))
    if _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, words, 0, 0) != 0:
        raise fail()


@cache
def load_library() -> ctypes.CDLL:
    """Return libseccomp; raises Unavailable."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise Unavailable(f"{LIBRARY} is not installed") from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def _check(result: int, *accepted: int) -> None:
    """Raise OSError for the negative errno that a function of the library returned."""
    if result < 0 and -result not in accepted:
        raise OSError(-result, os.strerror(-result))
