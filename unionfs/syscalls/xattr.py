"""Extended attributes of a name beneath a directory fd, never following a link.

Linux has system calls for that since 6.13.  Without them, or if they fail, the
path goes through /proc/self/fd, whose link leads to exactly the open directory;
that takes three times as long.

Source: listxattrat(2), getxattrat(2); struct xattr_args of linux/xattr.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
from struct import Struct

from unionfs.syscalls.libc import AT_SYMLINK_NOFOLLOW, libc

_NR_GETXATTRAT = 464
_NR_LISTXATTRAT = 465

_ROOM = 256  # bytes; most lists of names, and the values of our marks, are shorter
_Buffer = ctypes.c_char * _ROOM
# value, size, flags
_ARGS = Struct("=QII")
_ARGS_SIZE = ctypes.c_size_t(_ARGS.size)

_NONE = (errno.ENODATA, errno.EOPNOTSUPP)

# A separate object without a prototype, which would double the cost of a call.
_syscall = libc["syscall"]


def _has_calls() -> bool:
    _syscall(_NR_LISTXATTRAT, -1, b"name", 0, None, ctypes.c_size_t(0))
    return ctypes.get_errno() == errno.EBADF


HAS_CALLS = _has_calls()


def at(dir_fd: int, name: bytes) -> bytes:
    """Return a path that leads to `name` beneath `dir_fd` as long as that is open."""
    return b"/proc/self/fd/%d/%b" % (dir_fd, name)


def list_at(dir_fd: int, name: bytes) -> list[str]:
    """Return the attribute names of `name`, none if its filesystem has no attributes."""
    if HAS_CALLS:
        names = _Buffer()
        length: int = _syscall(_NR_LISTXATTRAT, dir_fd, name, AT_SYMLINK_NOFOLLOW, names, _ROOM)
        if length == 0:
            return []
        if length > 0:
            return os.fsdecode(names.raw[: length - 1]).split("\0")
    try:
        return os.listxattr(at(dir_fd, name), follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise


def list_fd(fd: int) -> list[str]:
    """Return the attribute names of the open file `fd`, none if there are no attributes.

    Works for an O_PATH fd too.
    """
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        if error.errno != errno.EBADF:
            raise
        return os.listxattr(b"/proc/self/fd/%d" % fd)


def get_fd(fd: int, name: bytes) -> bytes | None:
    """Return the value of attribute `name` of the open file `fd`, None if it has none.

    Works for an O_PATH fd too.
    """
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if error.errno in _NONE:
            return None
        if error.errno != errno.EBADF:
            raise
    try:
        return os.getxattr(b"/proc/self/fd/%d" % fd, name)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise


def get_at(dir_fd: int, name: bytes, attribute: bytes) -> bytes | None:
    """Return the value of `attribute` of `name`, None if it has none."""
    if HAS_CALLS:
        value = _value_of(dir_fd, name, attribute)
        if value is not None:
            return value
        if ctypes.get_errno() in _NONE:
            return None
    try:
        return os.getxattr(at(dir_fd, name), attribute, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise


def value_at(dir_fd: int, name: bytes, attribute: bytes) -> bytes:
    """Return the value of `attribute` of `name`; raises what getxattr(2) does."""
    if HAS_CALLS:
        value = _value_of(dir_fd, name, attribute)
        if value is not None:
            return value
        code = ctypes.get_errno()
        if code in _NONE:
            raise OSError(code, os.strerror(code))
    return os.getxattr(at(dir_fd, name), attribute, follow_symlinks=False)


def _value_of(dir_fd: int, name: bytes, attribute: bytes) -> bytes | None:
    """Return the value, None if the call fails, also because the value is long."""
    value = _Buffer()
    args = _ARGS.pack(ctypes.addressof(value), _ROOM, 0)
    length: int = _syscall(
        _NR_GETXATTRAT, dir_fd, name, AT_SYMLINK_NOFOLLOW, attribute, args, _ARGS_SIZE
    )
    return value.raw[:length] if length >= 0 else None
