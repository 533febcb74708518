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
_CAPABILITY = b"security.capability"

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


def is_none(code: int, name: bytes) -> bool:
    """Tell whether `code`, of getxattr(2), means that there is no attribute `name`.

    A capability that is malformed counts as none: setxattr(2) takes an empty one, and
    getxattr(2) shows nobody any but a valid one (security/commoncap.c:cap_inode_getsecurity()).
    """
    return code in _NONE or (code == errno.EINVAL and name == _CAPABILITY)


def get_fd(fd: int, name: bytes) -> bytes | None:
    """Return the value of attribute `name` of the open file `fd`, None if it has none.

    Works for an O_PATH fd too.  See `is_none`.
    """
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if is_none(error.errno or 0, name):
            return None
        if error.errno != errno.EBADF:
            raise
    return get_path(b"/proc/self/fd/%d" % fd, name, follows=True)


def get_path(path: bytes, name: bytes, *, follows: bool = False) -> bytes | None:
    """Return the value of attribute `name` of the file `path`, None if it has none."""
    try:
        return os.getxattr(path, name, follow_symlinks=follows)
    except OSError as error:
        if is_none(error.errno or 0, name):
            return None
        raise


def items_fd(fd: int) -> list[tuple[str, bytes]]:
    """Return names and values of the attributes of the open file `fd`.

    One that is removed meanwhile, or that `is_none`, is left out.
    """
    found = ((name, get_fd(fd, os.fsencode(name))) for name in list_fd(fd))
    return [(name, value) for name, value in found if value is not None]


def get_at(dir_fd: int, name: bytes, attribute: bytes) -> bytes | None:
    """Return the value of `attribute` of `name`, None if it has none."""
    if HAS_CALLS:
        value = _value_of(dir_fd, name, attribute)
        if value is not None:
            return value
        if is_none(ctypes.get_errno(), attribute):
            return None
    return get_path(at(dir_fd, name), attribute)


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
