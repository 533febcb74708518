"""The uses of /dev/fuse besides requests and replies: backing files and notices.

Source: fs/fuse/backing.c; fs/fuse/dev.c:fuse_notify().
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable

from unionfs.syscalls.lowered import WithoutFsetid, lower_thread
from unionfs.types import NodeId
from unionfs.wire import abi, notify


class _Thread(threading.local):
    lowered = False  # for good


class DeviceBackings:
    """Backing files, registered at /dev/fuse, that the kernel reads and writes by itself."""

    def __init__(self, fuse_fd: int, *, keeps_groups: bool = False) -> None:
        """With `keeps_groups` a thread has its groups whenever it registers nothing.

        A server of a network filesystem may ask for them.
        """
        self._fuse_fd = fuse_fd
        self._for_good = not keeps_groups
        self._thread = _Thread()
        self._lowered = WithoutFsetid()

    def register(self, fd: int, *, writes: bool) -> int:
        # The kernel writes with the credentials of the thread that registers.
        if not writes or self._thread.lowered:
            return self._register(fd)
        if self._for_good and lower_thread():
            self._thread.lowered = True
            return self._register(fd)
        with self._lowered:
            return self._register(fd)

    def _register(self, fd: int) -> int:
        # With a mutable argument fcntl.ioctl returns the backing id, not the buffer.
        backing_map = bytearray(abi.BACKING_MAP.pack(fd, 0, 0))
        return int(fcntl.ioctl(self._fuse_fd, abi.DEV_IOC_BACKING_OPEN, backing_map))

    def close(self, backing_id: int) -> None:
        fcntl.ioctl(self._fuse_fd, abi.DEV_IOC_BACKING_CLOSE, backing_id.to_bytes(4, "little"))


class DeviceNotifier:
    """Notices to the kernel; see `vfs.Notifier`."""

    def __init__(self, fuse_fd: int, changed: Callable[[NodeId], None] | None = None) -> None:
        """`changed` is told first of which directories the listing is to be forgotten."""
        self._fuse_fd = fuse_fd
        self._changed = changed

    def forget_attributes(self, nodeid: NodeId) -> None:
        self._send(notify.inode(nodeid, -1, 0))

    def forget_inode(self, nodeid: NodeId) -> None:
        if self._changed is not None:
            self._changed(nodeid)
        self._send(notify.inode(nodeid, 0, 0))

    def forget_name(self, parent: NodeId, name: bytes) -> None:
        if self._changed is not None:
            self._changed(parent)
        self._send(notify.entry(parent, name))

    def _send(self, message: bytes) -> None:
        try:
            os.write(self._fuse_fd, message)
        except OSError as error:
            # The kernel does not have the inode or the name in its cache, or the
            # filesystem is unmounted: there is nothing to forget.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV):
                raise


class DeviceCache(DeviceNotifier):
    """The kernel's cache of files; see `wire.files.Cache`.

    The threads that answer requests may call these methods, which do not wait for one.
    """

    def store(self, nodeid: NodeId, data: bytes | bytearray) -> None:
        try:
            os.writev(self._fuse_fd, [notify.pages(nodeid, len(data)), data])
        except OSError:
            return  # out of memory, or unmounted: the kernel will send a READ
