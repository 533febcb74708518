"""The reserve: disk space set aside so that images can be removed from a full disk.

The removal of an image writes to the database before it frees anything, and even
opening the database takes some space.  A file of that size is kept for it.  When
the disk is full the file is removed, and from then on the store must not grow
until there is space for the file again.

To find out whether there is space, the space is allocated: statvfs(2) also counts
blocks that ext4 reserves and gives to no process, not even to root.

Source: sqlite.org wal.html (the -wal and -shm files are made at each open);
ext4 `s_resv_clusters` (fs/ext4/super.c:ext4_calculate_resv_clusters()).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.errors import DiskFull, StoreError
from unionfs.light_typing import TypeVar

SIZE = 512 << 10
ADVICE = "`pyunion prune` and `pyunion rmi` make room, even now"
# With less free space, in bytes, the file is not made: it would fill the disk.
_PLENTY = 4 * SIZE
# With less free space, in bytes, try to allocate; ext4 reserves up to 16 MiB.
_NEARLY_FULL = 32 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)


Result = TypeVar("Result")


def has_room(directory: Path, size: int) -> bool:
    """Tell whether `size` more bytes can be allocated on the disk of `directory`.

    False only if it is full; the operation that follows reports any other error.
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


def is_on_btrfs(directory: Path) -> bool:
    """Tell whether `directory` is on btrfs, where a block that is written to is copied."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.major(os.fstat(fd).st_dev):
            return False  # a filesystem with a block device of its own
        from unionfs.syscalls.statfs import BTRFS, filesystem_type  # most stores do not need it

        return filesystem_type(fd) & 0xFFFFFFFF == BTRFS
    finally:
        os.close(fd)


class Reserve:
    """The file `<root>/reserve`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "reserve"
        self.low = False

    def settle(self) -> None:
        """Make the file if it is missing; without space for it the disk counts as full."""
        self.low = not self._path.exists() and not self._make()

    def look(self) -> None:
        """Free the reserve if the disk is full, so that a removal has the space it needs."""
        found = os.statvfs(self._root)
        # It says nothing of a quota of btrfs, where even a read may need space.
        if found.f_bfree * found.f_frsize < _NEARLY_FULL or is_on_btrfs(self._root):
            self.give_up()

    def with_room(self, work: Callable[[], Result]) -> Result:
        """Do `work`; if it fails for lack of space, free the reserve and do it again."""
        try:
            return work()
        except (StoreError, OSError) as error:
            # Another process may have freed some meanwhile.
            if not self.give_up() and not isinstance(error, DiskFull):
                raise
        return work()

    def give_up(self) -> bool:
        """Free the reserve if the disk is full; tell whether there was one."""
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
        """Let the store grow; raises DiskFull if the disk is full, now or within the block."""
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
            # Further lines show what failed, as the line of a Containerfile.
            first, newline, rest = str(error).partition("\n")
            raise DiskFull(f"{first}; {ADVICE}{newline}{rest}") from cause

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
            return error.errno not in FULL  # another fault shows in the next operation
        return True
