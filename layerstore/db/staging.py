"""Staging: where everything is built before it is renamed into place.

A staging directory lives as long as its flock, which the kernel drops with the
process that held it.  What is unlocked is nobody's and is swept; what is taken
out of the store is first renamed in here, so that a removal cut short is
finished by the next sweep.

Source: flock(2), rename(2).
"""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.db.reserve import Reserve

_DEPTH = 64
_YOUNG_SECONDS = 10
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class StagingArea:
    """The directory `<root>/staging`."""

    def __init__(self, path: Path, reserve: Reserve | None = None) -> None:
        self.path = path
        self._reserve = reserve or Reserve(path.parent)

    @contextmanager
    def to_build(self) -> Iterator[Path]:
        """Make a directory to build in what the store is to grow by.

        Raises StoreError where there is no room, also while it is being built.
        """
        with self._reserve.growing(), self.directory() as own:
            yield own

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """Make a directory of the caller's own; what is left in it at the end goes."""
        path, fd = self._make()
        try:
            yield path
        finally:
            remove_tree(path)
            os.close(fd)

    def discard(self, path: Path) -> None:
        """Remove the tree `path` of the same filesystem: gone from its place at once.

        Nothing is wrong with one that is not there.
        """
        with self.directory() as own:
            try:
                os.rename(path, own / "gone")
            except FileNotFoundError:
                return

    def sweep(self) -> list[Path]:
        """Remove what processes that ended have left behind; return what it was."""
        swept = []
        for path in sorted(self.path.iterdir()):
            with _claimed(path) as ours:
                if ours:
                    remove_tree(path)
                    swept.append(path)
        return swept

    def leftovers(self) -> list[Path]:
        """Return what is in here and belongs to no process.

        What was made a moment ago does not count: it may be about to be locked.
        """
        found = []
        for path in sorted(self.path.iterdir()):
            with _claimed(path) as ours, suppress(FileNotFoundError):
                if ours and time.time() - path.lstat().st_mtime > _YOUNG_SECONDS:
                    found.append(path)
        return found

    def _make(self) -> tuple[Path, int]:
        while True:
            path = self.path / os.urandom(8).hex()
            os.mkdir(path, 0o700)
            with suppress(FileNotFoundError):  # swept before it could be locked
                fd = os.open(path, _OPEN)
                if _lock(fd) and _is_at(fd, path):
                    return path, fd
                os.close(fd)
                # Somebody looked whether it was left behind; if it was to be swept it is gone.
                with suppress(OSError):
                    os.rmdir(path)


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Lock `path` against its owner, if it has none any more; tell whether it had none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        yield False
        return
    except OSError:
        yield True  # no directory of ours: a link, a device
        return
    try:
        yield _lock(fd) and _is_at(fd, path)
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    """Tell whether what is open as `fd` still is what `path` names."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def remove_tree(path: Path) -> None:
    """Remove `path` with all it holds, of any depth, following no link; absent is well."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        top = _open_own(str(path), None)
    except FileNotFoundError:
        return
    try:
        # A removal that was cut short may have left names of its own at the top.
        run = os.urandom(4).hex()
        names = (f".{run}.{number:x}" for number in itertools.count())
        while _clear(top, 0, top, names):
            continue
    finally:
        os.close(top)
    with suppress(FileNotFoundError):  # its maker, who found it claimed, was faster
        os.rmdir(path)


def _clear(fd: int, depth: int, top: int, names: Iterator[str]) -> bool:
    """Empty the directory open as `fd`, `depth` levels beneath the one open as `top`.

    What lies deeper than `_DEPTH` is moved up to `top`, so that the depth is
    bounded neither by descriptors nor by the stack; tells whether anything was.
    """
    moved = False
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_dir in found:
        if not is_dir:
            os.unlink(name, dir_fd=fd)
            continue
        child = _open_own(name, fd)
        try:
            if depth < _DEPTH:
                moved |= _clear(child, depth + 1, top, names)
            else:
                os.rename(name, next(names), src_dir_fd=fd, dst_dir_fd=top)
                moved = True
                continue
        finally:
            os.close(child)
        os.rmdir(name, dir_fd=fd)
    return moved


def _open_own(name: str, dir_fd: int | None) -> int:
    """Open a directory to empty it, by its owner's right where its mode denies that."""
    try:
        fd = os.open(name, _OPEN, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=dir_fd)
        return os.open(name, _OPEN, dir_fd=dir_fd)
    if os.geteuid() != 0 and os.fstat(fd).st_mode & 0o700 != 0o700:
        os.chmod(fd, 0o700)
    return fd
