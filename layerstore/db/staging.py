"""Staging, where everything is built before it is renamed into place.

A staging directory is in use as long as it is locked by flock(2); the kernel unlocks it
when the process that holds the lock ends.  A directory without a lock has no owner and
is removed.  What is removed from the store is first renamed into staging, so that the
next sweep finishes an interrupted removal.

Source: flock(2), rename(2).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.db.file_locks import is_at, try_lock
from layerstore.db.reserve import Reserve

_YOUNG_SECONDS = 10
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class StagingArea:
    """The directory `<root>/staging`."""

    def __init__(self, path: Path, reserve: Reserve | None = None) -> None:
        self.path = path
        self._reserve = reserve or Reserve(path.parent)

    @contextmanager
    def to_build(self) -> Iterator[Path]:
        """Make a directory to build something new for the store in.

        Raises StoreError if the disk is full, also while the directory is in use.
        """
        with self._reserve.growing(), self.directory() as own:
            yield own

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """Make a directory for the caller; it is removed at the end with what is left in it."""
        path, fd = self._make()
        try:
            yield path
        finally:
            remove_tree(path)
            os.close(fd)

    def sweep(self) -> list[Path]:
        """Remove the directories of processes that ended; return their paths."""
        swept = []
        for path in sorted(self.path.iterdir()):
            with _claimed(path) as ours:
                if ours:
                    remove_tree(path)
                    swept.append(path)
        return swept

    def leftovers(self) -> list[Path]:
        """Return the paths in staging that no process has locked.

        One that was made a moment ago is left out: its process may be about to lock it.
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
                if try_lock(fd) and is_at(fd, path):
                    return path, fd
                os.close(fd)
                # Another process has it locked to see whether it is left over, and may remove it.
                with suppress(OSError):
                    os.rmdir(path)


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Lock `path` unless its owner holds it; tell whether it had no owner."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        yield False
        return
    except OSError:
        yield True  # no directory of ours: a link, a device
        return
    try:
        yield try_lock(fd) and is_at(fd, path)
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Remove the tree `path` of any depth, following no link; no error if it is absent.

    A container may have made some of it immutable.
    """
    from unionfs.syscalls import removal  # ctypes, which most commands do without

    removal.remove_tree(None, os.fsencode(path), protected=True)
