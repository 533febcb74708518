"""The reserve: room set aside so that a full disk can be made emptier.

Removing an image writes to the database before it frees anything, and even to
open the database takes some room.  A file of that size is kept for it: when
the disk is full it is given up, and from then on the store only shrinks until
there is room for the file again.

Source: sqlite.org wal.html (the -wal and -shm files are made at each open).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.errors import StoreError

SIZE = 512 << 10
# Below this much the file is not made: it would only hasten the end.
_PLENTY = 4 * SIZE
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Reserve:
    """The file `<root>/reserve`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "reserve"
        self.low = False

    def settle(self) -> None:
        """Make the file where it is missing; without the room for it the disk counts as full."""
        self.low = not self._path.exists() and not self._make()

    def give_up(self) -> bool:
        """Give the room up to the database where the disk is full; tell whether there was any."""
        if self._free() >= SIZE:
            return False
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return False
        self.low = True
        return True

    @contextmanager
    def growing(self) -> Iterator[None]:
        """Let the store grow; raises StoreError, also from within, where the disk is full."""
        if self.low:
            self.settle()
        if self.low:
            raise self._error(errno.ENOSPC)
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise self._error(error.errno) from error

    def _error(self, code: int) -> StoreError:
        return StoreError(
            f"{os.strerror(code)} for the store {self._root}; `pyunion prune` and `pyunion rmi` "
            "make room, even now"
        )

    def _make(self) -> bool:
        if self._free() < _PLENTY:
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
            return error.errno not in _FULL  # what else is wrong shows in what is done next
        return True

    def _free(self) -> int:
        found = os.statvfs(self._root)
        return found.f_frsize * (found.f_bavail if os.geteuid() else found.f_bfree)
