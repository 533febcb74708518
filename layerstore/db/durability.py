"""Syncs: a crash loses nothing that was published, unless `sync=False` was given.

Every publication is: write, sync the content, rename into place, sync the
directory.  A store opened with `sync=False` skips the syncs; then a crash of the
machine can damage it, but a crash of the process cannot.

Source: fsync(2), syncfs(2); ext4's and xfs's rules for rename after fsync.
"""

from __future__ import annotations

import os
from pathlib import Path


class Durability:
    """The syncs of one open store; without `sync` its methods do nothing."""

    def __init__(self, *, sync: bool) -> None:
        self.sync = sync

    def file(self, fd: int) -> None:
        """Write back the file open as `fd`."""
        if self.sync:
            os.fsync(fd)

    def directory(self, path: Path) -> None:
        """Write back the names in the directory `path`."""
        if self.sync:
            with open_directory(path) as directory:
                os.fsync(directory.fd)

    def tree(self, path: Path) -> None:
        """Write back everything beneath `path`.

        One syncfs of the whole filesystem: an fsync of each of ten thousand
        files takes minutes, and this takes as long as their bytes need.
        """
        if self.sync:
            from unionfs.syscalls.syncfs import syncfs  # ctypes, which most commands do without

            with open_directory(path) as directory:
                syncfs(directory.fd)


class open_directory:
    """A context manager: the directory `path` open for reading, as `fd`."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> open_directory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
