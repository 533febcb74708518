"""The reserve: room set aside so that a full disk can be made emptier.

Removing an image writes to the database before it frees anything, and even to
open the database takes some room.  A file of that size is kept for it: when
the disk is full it is given up, and from then on the store only shrinks until
there is room for the file again.

Whether there is room is tried, not read: what statvfs(2) calls free is not all
to be had, since ext4 keeps some blocks that it gives to nobody, not even root.

Source: sqlite.org wal.html (the -wal and -shm files are made at each open);
ext4 `s_resv_clusters` (fs/ext4/super.c:ext4_calculate_resv_clusters()).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from layerstore.errors import DiskFull, StoreError

SIZE = 512 << 10
ADVICE = "`pyunion prune` and `pyunion rmi` make room, even now"
# Below this much the file is not made: it would only hasten the end.
_PLENTY = 4 * SIZE
# From here on it is tried whether there is room; ext4 keeps up to 16 MiB of it for itself.
_NEARLY_FULL = 32 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)


Result = TypeVar("Result")


def has_room(directory: Path, size: int) -> bool:
    """Tell whether the disk of `directory` takes `size` bytes more; they are given back at once.

    False only where it is full; whatever else is wrong shows in what is done next.
    """
    try:
        fd = os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno not in FULL
    return True


class Reserve:
    """The file `<root>/reserve`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "reserve"
        self.low = False

    def settle(self) -> None:
        """Make the file where it is missing; without the room for it the disk counts as full."""
        self.low = not self._path.exists() and not self._make()

    def look(self) -> None:
        """Give the room up where the disk is full, so that what is to free some cannot fail."""
        found = os.statvfs(self._root)
        if found.f_bfree * found.f_frsize < _NEARLY_FULL:
            self.give_up()

    def with_room(self, work: Callable[[], Result]) -> Result:
        """Do `work`, which needs a little room; where it fails for want of that, once more."""
        try:
            return work()
        except (StoreError, OSError):
            if not self.give_up():
                raise
        return work()

    def give_up(self) -> bool:
        """Give the room up to the database where the disk is full; tell whether there was any."""
        if has_room(self._root, SIZE):
            return False
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return False
        self.low = True
        return True

    @contextmanager
    def growing(self) -> Iterator[None]:
        """Let the store grow; raises DiskFull, also from within, where the disk is full."""
        if self.low:
            self.settle()
        if self.low:
            raise self._error(errno.ENOSPC)
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise self._error(error.errno) from error
        except StoreError as error:
            cause = error.__cause__
            full = isinstance(cause, OSError) and cause.errno in FULL
            if not full or isinstance(error, DiskFull):
                raise
            raise DiskFull(f"{error}; {ADVICE}") from cause

    def _error(self, code: int) -> DiskFull:
        return DiskFull(f"{os.strerror(code)} for the store {self._root}; {ADVICE}")

    def _make(self) -> bool:
        if not has_room(self._root, _PLENTY):
            return False
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, SIZE)
            finally:
                os.close(fd)
        except OSError as error:
            with suppress(OSError):
                os.unlink(self._path)
            return error.errno not in FULL  # what else is wrong shows in what is done next
        return True
