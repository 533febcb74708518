"""Staging: where everything is built before it is renamed into place.

A staging directory lives as long as its flock, which the kernel drops with the
process that held it.  What is unlocked is nobody's and is swept; what is taken
out of the store is first renamed in here, so that a removal cut short is
finished by the next sweep.

Source: flock(2), rename(2).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.db.reserve import Reserve
from unionfs.syscalls import removal

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
    """Remove `path` with all it holds, of any depth, following no link; no error if absent."""
    removal.remove_tree(None, os.fsencode(path))
