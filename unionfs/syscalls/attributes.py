"""Attribute changes by name that never follow a symbolic link.

`os.chmod` and `os.utime` are not enough: Python does not use fchmodat2(2) (Linux 6.6),
and `os.utime` has no UTIME_OMIT.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from struct import Struct

from unionfs.syscalls.libc import AT_SYMLINK_NOFOLLOW, fail, libc
from unionfs.syscalls.lowered import keeping_sgid
from unionfs.types import NS

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
_OMITTED = 0, UTIME_OMIT

_NR_FCHMODAT2 = 452


# Two struct timespec: atime, mtime.  Packing them costs less than a ctypes structure.
_TIMES = Struct("@llll")

# Separate objects without a prototype, which would double the cost of a call.  ctypes passes an
# int as C's int, which suffices for the arguments here.
_syscall = libc["syscall"]
_utimensat = libc["utimensat"]
_futimens = libc["futimens"]


def chmod(path: int | bytes, mode: int) -> None:
    """Set the permission bits of a path, or of an open file; sgid stays whatever its group is."""
    if not mode & stat.S_ISGID:
        _chmod(path, mode)
        return
    with keeping_sgid(mode):
        _chmod(path, mode)


def _chmod(path: int | bytes, mode: int) -> None:
    try:
        os.chmod(path, mode)
    except OSError as error:
        again = _path_of(path, error.errno) if isinstance(path, int) else None
        if again is None:
            raise
        os.chmod(again, mode)


def _path_of(fd: int, code: int | None) -> bytes | None:
    """Return a path for `fd` if it is O_PATH, which fchmod(2) and its like refuse with `code`."""
    path = b"/proc/self/fd/%d" % fd
    return path if code == errno.EBADF and os.path.exists(path) else None


def chmod_at(dir_fd: int, name: bytes, mode: int) -> None:
    """Like `chmod`, for `name` beneath `dir_fd`, which must not be a symbolic link."""
    if not mode & stat.S_ISGID:
        _chmod_at(dir_fd, name, mode)
        return
    with keeping_sgid(mode):
        _chmod_at(dir_fd, name, mode)


def _chmod_at(dir_fd: int, name: bytes, mode: int) -> None:
    if _syscall(_NR_FCHMODAT2, dir_fd, name, mode, AT_SYMLINK_NOFOLLOW) == 0:
        return
    if ctypes.get_errno() != errno.ENOSYS:
        raise fail(name)
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.chmod(b"/proc/self/fd/%d" % fd, mode)
    finally:
        os.close(fd)


def utimens_at(dir_fd: int, name: bytes | None, atime_ns: int | None, mtime_ns: int | None) -> None:
    """Set the times of `name` beneath `dir_fd` in ns, without changing those that are None.

    Without a `name` they are the times of the open file `dir_fd`.
    """
    if name is None and atime_ns is not None and mtime_ns is not None:
        try:
            os.utime(dir_fd, ns=(atime_ns, mtime_ns))  # costs less than ctypes
        except OSError as error:
            again = _path_of(dir_fd, error.errno)
            if again is None:
                raise
            os.utime(again, ns=(atime_ns, mtime_ns))
        return
    atime = _OMITTED if atime_ns is None else divmod(atime_ns, NS)
    mtime = _OMITTED if mtime_ns is None else divmod(mtime_ns, NS)
    times = _TIMES.pack(*atime, *mtime)
    if name is None:
        _set_times(dir_fd, times)
    elif _utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) != 0:
        raise fail(name)


def touch_at(dir_fd: int, name: bytes | None) -> None:
    """Set both times of `name` beneath `dir_fd` to now; allowed for an append-only file.

    Without a `name` they are the times of the open file `dir_fd` itself.
    """
    times = _TIMES.pack(0, UTIME_NOW, 0, UTIME_NOW)
    if name is None:
        _set_times(dir_fd, times)
    elif _utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) != 0:
        raise fail(name)


def touch(fd: int) -> None:
    """Set the mtime of the open file `fd` to now, by the clock of its filesystem."""
    if _futimens(fd, _TIMES.pack(0, UTIME_OMIT, 0, UTIME_NOW)) != 0:
        raise fail()


def _set_times(fd: int, times: bytes) -> None:
    if _futimens(fd, times) == 0:
        return
    path = _path_of(fd, ctypes.get_errno())
    if path is None:
        raise fail()
    if _utimensat(fd, path, times, 0) != 0:
        raise fail(path)
