"""Run a command as a process with rules of Landlock or a filter of system calls that bars nothing.

    python -m tests.helpers.restricted landlock|filter COMMAND [ARGUMENT...]

Both let everything through that the tests do, except that Landlock allows no mount.

Source: landlock(7); seccomp(2) SECCOMP_SET_MODE_FILTER.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_VERSION = 1
_MAKE_BLOCK = 1 << 11  # nobody does that here
_PR_SET_SECCOMP, _FILTER = 22, 2
_ALLOW = struct.pack("@HBBI", 0x06, 0, 0, 0x7FFF0000)  # BPF_RET | BPF_K, SECCOMP_RET_ALLOW


def has_landlock() -> bool:
    """Tell whether the kernel has Landlock."""
    version: int = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return version >= 1


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "this process cannot be restricted")
    return result


def landlock() -> None:
    """Enter a Landlock domain; needs CAP_SYS_ADMIN."""
    rules = struct.pack("@Q", _MAKE_BLOCK)
    fd = _checked(_LIBC.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0))
    _checked(_LIBC.syscall(_RESTRICT_SELF, fd, 0))
    os.close(fd)


def filter_calls() -> None:
    """Install a filter of system calls that allows all of them; needs CAP_SYS_ADMIN."""
    one = ctypes.create_string_buffer(_ALLOW, len(_ALLOW))
    program = struct.pack("@HxxxxxxP", 1, ctypes.addressof(one))
    _checked(_LIBC.prctl(_PR_SET_SECCOMP, _FILTER, program, 0, 0))


if __name__ == "__main__":
    {"landlock": landlock, "filter": filter_calls}[sys.argv[1]]()
    os.execvp(sys.argv[2], sys.argv[2:])
