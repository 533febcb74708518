"""keyctl(2): a new session keyring, so that a process does not have the keys of another."""

from __future__ import annotations

import ctypes
import errno
import os

from unionfs.syscalls.libc import fail, libc

_NUMBERS = {"x86_64": 250, "i686": 288, "armv7l": 311, "ppc64le": 271, "s390x": 280}
_GENERIC = 219  # aarch64, riscv64, loongarch64
_JOIN_SESSION_KEYRING = 1
_LACKING = (errno.ENOSYS, errno.EPERM)  # no keys in this kernel, or a filter of system calls

_syscall = libc.syscall


def join_new_session() -> None:
    """Leave the session keyring for a new one, which is empty, where there are keyrings.

    Raises OSError: EDQUOT, ENOMEM.
    """
    number = _NUMBERS.get(os.uname().machine, _GENERIC)
    if _syscall(ctypes.c_long(number), ctypes.c_long(_JOIN_SESSION_KEYRING), None) < 0:
        error = fail()
        if error.errno not in _LACKING:
            raise error
