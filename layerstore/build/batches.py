"""Regular files of a directory, copied by several threads.

This module alone decides how a copy is divided.  The kernel takes most of the time that a
file takes, and creates files of several threads at once, also in one directory.

Threading: `add` and `finish` belong to one thread; when `finish` has returned, no other runs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from layerstore.build.owner import Owner
from layerstore.build.tree import TreeEntry

_FEW = 16  # files that are not worth a thread
_MOST = 512  # files in a batch
_THREADS = min(2, os.cpu_count() or 1)


class Batch:
    """Files of one directory that are to be copied to another.

    `copy` copies one, as `Copier` does; its second argument is the directory to copy to.
    """

    def __init__(self, copy: Callable[[TreeEntry, int, bytes, Owner], None]) -> None:
        self._copy = copy
        self._files: list[tuple[TreeEntry, int, bytes, Owner]] = []
        self._source = -1

    def add(self, entry: TreeEntry, fd: int, name: bytes, owner: Owner) -> None:
        """Copy `entry` as `name` to the directory `fd`, at the latest in `finish`.

        The caller calls `finish` before an entry of another directory.
        """
        if self._source < 0:
            # The walk closes its own when it goes on.
            self._source = os.dup(entry.parent_fd)
        self._files.append((entry._replace(parent_fd=self._source), fd, name, owner))
        if len(self._files) >= _MOST:
            self.finish()

    def finish(self) -> None:
        """Copy what was added; raises the first error."""
        files, self._files = self._files, []
        try:
            count = _THREADS if len(files) >= _FEW else 1
            errors: list[BaseException] = []
            others = [
                threading.Thread(target=self._copy_some, args=(files[start::count], errors))
                for start in range(1, count)
            ]
            for thread in others:
                thread.start()
            self._copy_some(files[::count], errors)
            for thread in others:
                thread.join()
            if errors:
                raise errors[0]
        finally:
            self.drop()

    def drop(self) -> None:
        """Forget what was added and not copied."""
        self._files.clear()
        if self._source >= 0:
            os.close(self._source)
            self._source = -1

    def _copy_some(
        self, files: list[tuple[TreeEntry, int, bytes, Owner]], errors: list[BaseException]
    ) -> None:
        try:
            for entry, fd, name, owner in files:
                if errors:
                    return
                self._copy(entry, fd, name, owner)
        except BaseException as error:
            errors.append(error)
