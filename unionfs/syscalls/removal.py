"""Remove a tree of any depth, with few descriptors and limited recursion.

Source: unlink(2), rename(2).
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

_DEPTH = 64
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(dir_fd: int | None, name: bytes) -> None:
    """Remove the tree `name` beneath `dir_fd`, never following a link.

    No error if it is absent, or if another process removes parts of it meanwhile.
    Directories whose mode denies their owner access are removed too.  A removal that is
    interrupted may leave directories that it moved to the top of the tree; the next
    removal removes them.
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
        while _clear(top, 0, top, names):
            continue
    finally:
        os.close(top)
    with suppress(FileNotFoundError):  # another process removed it meanwhile
        os.rmdir(name, dir_fd=dir_fd)


def _clear(fd: int, depth: int, top: int, names: Iterator[bytes]) -> bool:
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
                moved |= _clear_dir(name, fd, depth, top, names)
            else:
                os.unlink(name, dir_fd=fd)
    return moved


def _clear_dir(name: bytes, fd: int, depth: int, top: int, names: Iterator[bytes]) -> bool:
    """Remove the directory `name` in the one that `_clear` empties; return the same as `_clear`."""
    child = open_own_dir(name, fd)
    try:
        if depth >= _DEPTH:
            os.rename(name, next(names), src_dir_fd=fd, dst_dir_fd=top)
            return True
        moved = _clear(child, depth + 1, top, names)
    finally:
        os.close(child)
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=fd)
    return moved


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
