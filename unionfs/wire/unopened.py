"""Files that the kernel reads without opening them: a read-only mount with `noopen`.

ENOSYS as the answer to the first OPEN makes the kernel send neither OPEN nor RELEASE any
more.  A READ then has no handle, only a nodeid.

Source: fs/fuse/file.c:fuse_file_open(); linux/fuse.h "FUSE_NO_OPEN_SUPPORT".
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from unionfs.light_typing import TypeVar
from unionfs.types import Fh, NodeId
from unionfs.vfs import DirectFilesystem

# How many files stay open.
MOST_OPEN = 256

_Result = TypeVar("_Result")


class Unopened:
    """Handles for reading files that no program has opened; the one used last is at the end.

    `kept` has them by nodeid.
    """

    def __init__(self, fs: DirectFilesystem) -> None:
        self._fs = fs
        self._lock = threading.Lock()
        self.kept: dict[NodeId, Fh] = {}

    def with_handle(self, nodeid: NodeId, use: Callable[[Fh], _Result]) -> _Result:
        """Return `use(fh)` for a handle of `nodeid`; raises what open(2) and `use` raise."""
        fh = self.kept.get(nodeid)
        if fh is not None:
            try:
                return use(fh)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                # Another thread has closed it, to keep a newer one.
        fh = self._fs.open(nodeid, os.O_RDONLY)
        try:
            result = use(fh)
        except BaseException:
            self._fs.release(fh)
            raise
        self._keep(nodeid, fh)
        return result

    def forget(self, nodeid: NodeId) -> None:
        """Close the handle of `nodeid`, if it has one."""
        with self._lock:
            fh = self.kept.pop(nodeid, None)
        if fh is not None:
            self._fs.release(fh)

    def _keep(self, nodeid: NodeId, fh: Fh) -> None:
        with self._lock:
            surplus = self.kept.pop(nodeid, None)
            self.kept[nodeid] = fh
            if surplus is None and len(self.kept) > MOST_OPEN:
                surplus = self.kept.pop(next(iter(self.kept)))
        if surplus is not None:
            self._fs.release(surplus)
