"""Open a path beneath a root directory as if that were `/`, symbolic links included.

No component leads out of it: `..` stops at the root, an absolute link starts there,
and the magic links of /proc are refused.  If openat2(2) is missing
or forbidden (Linux before 5.6, some seccomp profiles) the same is done one
component at a time.  Source: openat2(2) RESOLVE_IN_ROOT, path_resolution(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from unionfs.errors import fs_error
from unionfs.syscalls.libc import fail, libc

_SYS_OPENAT2 = 437  # the same on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_HOW = struct.Struct("=QQQ")
_MAX_LINKS = 40
_NOT_HERE = (errno.ENOSYS, errno.EPERM)
_RETRIES = 8

_syscall = libc["syscall"]  # a separate object: other modules declare other types
_syscall.restype = ctypes.c_long
_syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
]


def open_in_root(root_fd: int, path: bytes, flags: int) -> int:
    """Open `path` as if the directory `root_fd` were `/`; the caller closes the fd.

    Symbolic links are followed within the root, the last one too unless
    `flags` has O_NOFOLLOW.  Raises the `OSError` of openat2(2).
    """
    flags |= os.O_CLOEXEC
    how = _HOW.pack(flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    error = fs_error(errno.EAGAIN, path)
    for _ in range(_RETRIES):
        fd = _syscall(_SYS_OPENAT2, root_fd, path or b".", how, len(how))
        if fd >= 0:
            return int(fd)
        error = fail(path)
        if error.errno in _NOT_HERE:
            return walk_in_root(root_fd, path, flags)
        if error.errno != errno.EAGAIN:  # something was renamed in the tree meanwhile
            break
    try:
        raise error
    finally:
        del error  # else a reference cycle keeps the fds of the callers open


def walk_in_root(root_fd: int, path: bytes, flags: int) -> int:
    """Like `open_in_root`, one component at a time, each beneath the fd of the one before.

    If a directory is moved out of the root meanwhile, this follows it there.  So only the
    caller may be able to change the tree.
    """
    todo = path.split(b"/")[::-1]
    opened = [os.open(b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)]
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if len(opened) > 1:
                    os.close(opened.pop())
                continue
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened[-1])
            opened.append(fd)
            mode = os.fstat(fd).st_mode
            last = not any(part not in (b"", b".") for part in todo)
            if stat.S_ISLNK(mode) and not (last and flags & os.O_NOFOLLOW):
                links += 1
                if links > _MAX_LINKS:
                    raise fs_error(errno.ELOOP, path)
                target = os.readlink(b"", dir_fd=fd)
                os.close(opened.pop())
                if target.startswith(b"/"):
                    while len(opened) > 1:
                        os.close(opened.pop())
                todo += target.split(b"/")[::-1]
            elif last:
                return _reopen(opened[-2], name, fd, flags)
            elif not stat.S_ISDIR(mode):
                raise fs_error(errno.ENOTDIR, path)
        return os.open(b".", flags, dir_fd=opened[-1])
    finally:
        for fd in opened:
            os.close(fd)


def _reopen(parent: int, name: bytes, found: int, flags: int) -> int:
    """Open `name` with `flags`; ESTALE if it is no longer the file of the fd `found`."""
    fd = os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
    if not os.path.sameopenfile(fd, found):
        os.close(fd)
        raise fs_error(errno.ESTALE, name)
    return fd
