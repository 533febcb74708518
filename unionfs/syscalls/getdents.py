"""getdents64(2): the entries of an open directory, each with its inode number and type.

`os.scandir` needs eight system calls for an empty directory, since it makes a stream of it
first; this needs three.

Source: getdents(2); struct linux_dirent64 of <linux/dirent.h>; glibc from 2.30 on, or musl.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from struct import Struct

from unionfs.syscalls.libc import fail, libc

# d_ino, d_off, d_reclen, d_type; what follows is the name, with a zero at its end.
_HEAD = Struct("=QqHB")
unpack = _HEAD.unpack_from
NAME = _HEAD.size
_SIZE = 32 << 10  # bytes, as readdir(3) takes
DOTS = (b".", b"..")
_DOTS_SIZE = 48
# What the records of `.` and `..` have from d_reclen on.  Nearly everywhere they come first.
_DOT, _DOTDOT = (_HEAD.pack(0, 0, _DOTS_SIZE // 2, 4)[16:] + name + b"\0" for name in DOTS)

_Buffer = ctypes.c_char * _SIZE

_spare: list[tuple[memoryview, ctypes.Array[ctypes.c_char]]] = []


def find_call() -> Callable[..., int] | None:
    """Return the call of the C library, None if that is older than it."""
    for name in ("getdents64", "getdents"):  # the second is musl's only name for it
        if hasattr(libc, name):
            return libc[name]
    return None


call = find_call()


def entries(fd: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, the inode number and the d_type of each entry, without `.` and `..`.

    For the rest see `records`.
    """
    for part in records(fd):
        at, length = 0, len(part)
        while at < length:
            ino, _, size, d_type = unpack(part, at)
            name = part[at + NAME : part.index(0, at + NAME)]
            at += size
            if name not in DOTS:
                yield name, ino, d_type


def records(fd: int) -> list[bytes]:
    """Return the records of the entries, in parts; the caller takes them apart as `entries`.

    `unpack` returns the inode number, the offset, the size in bytes and the d_type of one; its name
    begins `NAME` bytes behind, and ends before a zero.  `.` and `..` are left out if they come
    first.

    The directory `fd` is read from its beginning, and its position is anywhere afterwards; no
    other thread may read from `fd` meanwhile.  The d_type is 0 if the filesystem does not say it.
    Raises the OSError of getdents64(2): EBADF for an O_PATH fd.
    """
    # First, not last: after a failure the next reading begins anew all the same.
    os.lseek(fd, 0, os.SEEK_SET)
    if call is None:
        return [_by_stream(fd)]
    found = []
    buffer = _spare.pop() if _spare else _new_buffer()
    data, address = buffer
    while (length := call(fd, address, _SIZE)) > 0:
        part = data[:length].tobytes()
        if part[16:21] == _DOT and part[40:46] == _DOTDOT:
            part = part[_DOTS_SIZE:]
        found.append(part)
    # A directory that was removed while it was open has no entries, as in readdir(3).
    failed = length < 0 and ctypes.get_errno() != errno.ENOENT
    _spare.append(buffer)
    if failed:
        raise fail()
    return found


def _new_buffer() -> tuple[memoryview, ctypes.Array[ctypes.c_char]]:
    data = bytearray(_SIZE)
    return memoryview(data), _Buffer.from_buffer(data)


def _by_stream(fd: int) -> bytes:
    """Return what `records` yields, with a C library that does not have the call."""
    found = bytearray()
    with os.scandir(fd) as directory:
        for entry in directory:
            d_type = 0
            if entry.is_symlink():
                d_type = 10
            elif entry.is_dir(follow_symlinks=False):
                d_type = 4
            elif entry.is_file(follow_symlinks=False):
                d_type = 8
            name = os.fsencode(entry.name) + b"\0"
            found += _HEAD.pack(entry.inode(), 0, NAME + len(name), d_type) + name
    return bytes(found)
