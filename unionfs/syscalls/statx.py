"""statx(2): the attributes `os.stat` lacks, such as the time of birth."""

from __future__ import annotations

import ctypes
from struct import Struct

from unionfs.syscalls.libc import fail, libc

AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
SIZE = 256

_Buffer = ctypes.c_char * SIZE

_statx = libc.statx
_statx.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_void_p,
]


_ATTRIBUTES = Struct("=Q")  # stx_attributes, at offset 8
_IMMUTABLE_OR_APPEND = 0x10 | 0x20


def is_marked(fd: int) -> bool:
    """Tell whether the file `fd` is immutable or append-only (chattr(1), +i and +a)."""
    (attributes,) = _ATTRIBUTES.unpack_from(statx(fd, b"", 0), 8)
    return bool(attributes & _IMMUTABLE_OR_APPEND)


def statx(dir_fd: int, name: bytes, mask: int) -> bytearray:
    """Return struct statx of `name` beneath `dir_fd`, of `dir_fd` itself for b""."""
    buffer = _Buffer()
    flags = AT_SYMLINK_NOFOLLOW if name else AT_EMPTY_PATH
    if _statx(dir_fd, name, flags, mask, buffer) != 0:
        raise fail(name)
    return bytearray(buffer)
