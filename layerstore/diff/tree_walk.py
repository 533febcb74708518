"""Walk a tree of any depth, even deeper than the longest path or Python's recursion.

Decided here and only here: how this needs only two descriptors.  Each directory is opened
from its parent, and the parent is opened again as `..` and compared, so a directory that
is moved meanwhile does not lead elsewhere.

Source: fts(3), which does the same.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from unionfs.errors import fs_error
from unionfs.light_typing import NamedTuple

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PASSED_OVER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


class Folder(NamedTuple):
    """A directory: its path beneath the top, its fd, valid until the next step, and its names."""

    path: bytes
    fd: int
    names: list[bytes]


class _Level(NamedTuple):
    path: bytes
    identity: tuple[int, int]
    todo: list[bytes]


def walk(top: bytes | str | os.PathLike[str], *, live: bool = False) -> Iterator[Folder]:
    """Yield the directory `top`, with the path b"", and every one beneath it.

    `live` says that the tree may change meanwhile: the walk leaves out what
    vanishes or may not be read, and the siblings of a directory that was moved.
    Raises OSError.
    """
    fd = os.open(top, _OPEN)
    try:
        names, level = _read(fd, b"")
        levels = [level]
        yield Folder(b"", fd, names)
        while levels:
            level = levels[-1]
            if not level.todo:
                levels.pop()
                if not levels:
                    return
                fd = _replace(fd, os.open(b"..", _OPEN, dir_fd=fd))
                if _is_same(fd, levels[-1]):
                    continue
                if live:
                    return
                raise fs_error(errno.ESTALE, level.path)
            name = level.todo.pop()
            try:
                below = os.open(name, _OPEN, dir_fd=fd)
            except OSError as error:
                if live and error.errno in _PASSED_OVER:
                    continue
                raise
            fd = _replace(fd, below)
            names, level = _read(fd, level.path + b"/" + name if level.path else name)
            levels.append(level)
            yield Folder(level.path, fd, names)
    finally:
        os.close(fd)


def _read(fd: int, path: bytes) -> tuple[list[bytes], _Level]:
    names, todo = [], []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            names.append(name)
            if entry.is_dir(follow_symlinks=False):
                todo.append(name)
    st = os.fstat(fd)
    return names, _Level(path, (st.st_dev, st.st_ino), todo)


def _replace(fd: int, by: int) -> int:
    os.close(fd)
    return by


def _is_same(fd: int, level: _Level) -> bool:
    st = os.fstat(fd)
    return (st.st_dev, st.st_ino) == level.identity


def tree_size(top: bytes | str | os.PathLike[str]) -> int:
    """Return the bytes of the files beneath `top`, each counted once; 0 if `top` is missing."""
    total = 0
    linked: set[tuple[int, int]] = set()
    with suppress(FileNotFoundError):
        for folder in walk(top, live=True):
            for name in folder.names:
                with suppress(FileNotFoundError):  # a running container removes files
                    st = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
                    if stat.S_ISREG(st.st_mode) and _is_first(st, linked):
                        total += st.st_size
    return total


def _is_first(st: os.stat_result, linked: set[tuple[int, int]]) -> bool:
    """Tell whether no link of the file was met before; note it in `linked` if it has several."""
    if st.st_nlink == 1:
        return True
    identity = st.st_dev, st.st_ino
    if identity in linked:
        return False
    linked.add(identity)
    return True
