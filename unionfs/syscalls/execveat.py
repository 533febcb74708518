"""execveat(2): run a program by its directory and its name in it.

No `/proc` is needed, and unlike a program run by a descriptor (fexecve(3)) the process has
the program's name as its own on every Linux.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence

from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls.libc import AT_SYMLINK_NOFOLLOW, fail, libc

if TYPE_CHECKING:
    from typing import NoReturn

_NUMBERS = {"x86_64": 322, "aarch64": 281, "riscv64": 281}
_NR_EXECVEAT = _NUMBERS.get(os.uname().machine, 322)

_Words = ctypes.POINTER(ctypes.c_char_p)
_execveat = libc["syscall"]  # a separate object: other modules declare other types
_execveat.restype = ctypes.c_long
_execveat.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, _Words, _Words, ctypes.c_int]


def execveat(
    directory: int, name: bytes, words: Sequence[str], environment: Mapping[str, str]
) -> NoReturn:
    """Run the program `name` of the directory open as `directory` in place of this process.

    A symbolic link is not followed (ELOOP).  If `directory` is close-on-exec the kernel runs
    no script either (ENOENT): its interpreter could not open it.  Raises OSError.
    """
    pairs = [f"{variable}={value}" for variable, value in environment.items()]
    _execveat(_NR_EXECVEAT, directory, name, _vector(words), _vector(pairs), AT_SYMLINK_NOFOLLOW)
    raise fail(name)


def _vector(words: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(words) + 1))(*map(os.fsencode, words), None)
