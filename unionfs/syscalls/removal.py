"""Remove a tree of any depth, with few descriptors and limited recursion.

Source: unlink(2), rename(2), ioctl_iflags(2).
"""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from struct import Struct

_DEPTH = 64
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
_FLAGS = Struct("@i")
_PROTECTING = 0x10 | 0x20  # FS_IMMUTABLE_FL, FS_APPEND_FL
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(dir_fd: int | None, name: bytes, *, protected: bool = False) -> None:
    """Remove the tree `name` beneath `dir_fd`, never following a link.

    No error if it is absent, or if another process removes parts of it meanwhile.
    Directories whose mode denies their owner access are removed too, and with `protected`
    what chattr(1) made immutable or append-only in the tree.  A removal that is interrupted
    may leave directories that it moved to the top of the tree; the next removal removes them.
    """
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=dir_fd)
            return
        top = open_own_dir(name, dir_fd)
    except FileNotFoundError:
        return
    try:
        run = os.urandom(4).hex()
        names = (b".%s.%x" % (run.encode(), number) for number in itertools.count())
        while _clear(top, 0, top, names, protected):
            continue
        if protected:
            _free(top)
    finally:
        os.close(top)
    with suppress(FileNotFoundError):  # another process removed it meanwhile
        os.rmdir(name, dir_fd=dir_fd)


def _clear(fd: int, depth: int, top: int, names: Iterator[bytes], protected: bool) -> bool:
    """Empty the directory open as `fd`, `depth` levels beneath the one open as `top`.

    Directories deeper than `_DEPTH` are moved up to `top`, so that neither descriptors
    nor the stack limit the depth.  Returns whether one was moved.
    """
    moved = False
    found: list[tuple[bytes, bool]] = []
    with suppress(FileNotFoundError), os.scandir(fd) as entries:
        found += (
            (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries
        )
    for name, is_dir in found:
        with suppress(FileNotFoundError):  # another process removed it meanwhile
            if is_dir:
                moved |= _clear_dir(name, fd, depth, top, names, protected)
                continue
            try:
                os.unlink(name, dir_fd=fd)
            except PermissionError:
                if not protected:
                    raise
                _free(fd)
                _free_named(fd, name)
                os.unlink(name, dir_fd=fd)
    return moved


def _clear_dir(
    name: bytes, fd: int, depth: int, top: int, names: Iterator[bytes], protected: bool
) -> bool:
    """Remove the directory `name` in the one that `_clear` empties; return the same as `_clear`."""
    child = open_own_dir(name, fd)
    try:
        if protected:
            _free(child)
            _free(fd)
        if depth >= _DEPTH:
            os.rename(name, next(names), src_dir_fd=fd, dst_dir_fd=top)
            return True
        moved = _clear(child, depth + 1, top, names, protected)
    finally:
        os.close(child)
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=fd)
    return moved


def _free_named(fd: int, name: bytes) -> None:
    """Do what `_free` does for the entry `name` of the directory `fd`, if it is a regular file."""
    if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags, dir_fd=fd)
        try:
            _free(file)
        finally:
            os.close(file)


def _free(fd: int) -> None:
    """Take the marks of chattr(1) from an open file or directory that forbid to remove it."""
    flags = bytearray(_FLAGS.size)
    # A filesystem without such marks, or a process that may not change them: the removal says so.
    with suppress(OSError):
        fcntl.ioctl(fd, _GETFLAGS, flags)
        (before,) = _FLAGS.unpack(flags)
        if before & _PROTECTING:
            fcntl.ioctl(fd, _SETFLAGS, _FLAGS.pack(before & ~_PROTECTING))


def open_own_dir(name: bytes, dir_fd: int | None) -> int:
    """Open our own directory to change it; if its mode denies that, set mode 0700 first.

    Raises EPERM if another user owns it and its mode denies us access.
    """
    try:
        fd = os.open(name, _OPEN, dir_fd=dir_fd)
    except PermissionError:
        path = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
        try:
            os.chmod(b"/proc/self/fd/%d" % path, 0o700)
        finally:
            os.close(path)
        return os.open(name, _OPEN, dir_fd=dir_fd)
    if os.geteuid() != 0 and os.fstat(fd).st_mode & 0o700 != 0o700:
        os.chmod(fd, 0o700)
    return fd
