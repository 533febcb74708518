"""System calls that Python's `os` does not offer, or offers with less than the kernel does.

For tests only: a test has to name the exact call a program makes.  Every
function raises `OSError` with the call's errno.  Paths are `str`, `bytes` or
path-like; a directory fd of None means the working directory.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
FALLOC_FL_ZERO_RANGE = 16

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IMMUTABLE_FL = 0x10
FS_APPEND_FL = 0x20
FS_NODUMP_FL = 0x40

STATX_BTIME = 0x800

_CLOCK_REALTIME_COARSE = 5
_CACHESTAT = 451

PathLike = str | bytes | os.PathLike[str]

_libc.renameat2.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
]
_libc.linkat.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
]
_libc.utimensat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.getdents64.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
_libc.getdents64.restype = ctypes.c_ssize_t
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.statx.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_void_p,
]
_libc.faccessat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]


def _checked(result: int, path: PathLike | None = None) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result


def _at(dir_fd: int | None) -> int:
    return AT_FDCWD if dir_fd is None else dir_fd


def renameat2(
    old: PathLike,
    new: PathLike,
    flags: int = 0,
    *,
    old_dir_fd: int | None = None,
    new_dir_fd: int | None = None,
) -> None:
    """Rename with RENAME_* flags."""
    _checked(
        _libc.renameat2(
            _at(old_dir_fd), os.fsencode(old), _at(new_dir_fd), os.fsencode(new), flags
        ),
        old,
    )


def linkat(old: PathLike, new: PathLike, flags: int = 0) -> None:
    """Link with exactly these AT_* flags; `os.link` cannot follow a final symlink."""
    _checked(_libc.linkat(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags), old)


def link_fd(fd: int, new: PathLike) -> None:
    """Give the open (O_TMPFILE) file `fd` a name."""
    linkat(f"/proc/self/fd/{fd}", new, AT_SYMLINK_FOLLOW)


def utimensat(
    path: PathLike, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0
) -> None:
    """Set times as (seconds, ns); ns may be UTIME_NOW or UTIME_OMIT."""
    packed = struct.pack("qqqq", *atime, *mtime)
    _checked(_libc.utimensat(AT_FDCWD, os.fsencode(path), packed, flags), path)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Run fallocate(2); unlike posix_fallocate it is never emulated by writing."""
    _checked(_libc.fallocate(fd, mode, offset, length))


def syncfs(fd: int) -> None:
    """Run syncfs(2) on the filesystem of `fd`."""
    _checked(_libc.syncfs(fd))


def access(path: PathLike, mode: int) -> None:
    """Run access(2), raising the errno `os.access` hides."""
    _checked(_libc.faccessat(AT_FDCWD, os.fsencode(path), mode, 0), path)


def btime_ns(path: PathLike) -> int | None:
    """Return the birth time in ns, or None where the filesystem tells none."""
    buffer = ctypes.create_string_buffer(256)
    _checked(
        _libc.statx(AT_FDCWD, os.fsencode(path), AT_SYMLINK_NOFOLLOW, STATX_BTIME, buffer), path
    )
    (mask,) = struct.unpack_from("I", buffer, 0)
    if not mask & STATX_BTIME:
        return None
    seconds, ns = struct.unpack_from("qI", buffer, 80)
    return int(seconds) * 10**9 + int(ns)


class Dirent(NamedTuple):
    """One entry of getdents64(2)."""

    d_ino: int
    d_off: int
    d_type: int
    name: bytes


def getdents64(fd: int, size: int = 32768) -> list[Dirent]:
    """Return the next entries of the directory `fd`; empty at its end."""
    buffer = ctypes.create_string_buffer(size)
    filled = _checked(_libc.getdents64(fd, buffer, size))
    return list(_dirents(buffer.raw[:filled]))


def _dirents(raw: bytes) -> Iterator[Dirent]:
    at = 0
    while at < len(raw):
        d_ino, d_off, length, d_type = struct.unpack_from("QqHB", raw, at)
        yield Dirent(d_ino, d_off, d_type, raw[at + 19 : at + length].split(b"\0", 1)[0])
        at += length


def all_dirents(path: PathLike, size: int = 32768) -> list[Dirent]:
    """Return every entry of a directory, `.` and `..` among them."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found: list[Dirent] = []
        while some := getdents64(fd, size):
            found += some
        return found
    finally:
        os.close(fd)


def get_flags(path: PathLike) -> int:
    """Return what lsattr(1) shows, as FS_*_FL."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, struct.pack("i", 0)))
        return int(flags)
    finally:
        os.close(fd)


def set_flags(path: PathLike, flags: int) -> None:
    """Set what chattr(1) sets, as FS_*_FL."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", flags))
    finally:
        os.close(fd)


def cached_pages(path: PathLike) -> int:
    """Return how many pages of a file are in memory, as cachestat(2) tells; ENOSYS before 6.5."""
    everything = (ctypes.c_uint64 * 2)(0, 0)
    found = (ctypes.c_uint64 * 5)()
    fd = os.open(path, os.O_RDONLY)
    try:
        _checked(_libc.syscall(_CACHESTAT, fd, everything, found, 0), path)
    finally:
        os.close(fd)
    return int(found[0])


def next_tick() -> None:
    """Return once a stamp that a filesystem takes is later than any taken before (some ms).

    Stamps come from the coarse clock, but from the fine one where somebody
    looked at the one before, and the coarse clock lags: it has to pass the fine.
    """
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) <= now:
        os.sched_yield()
