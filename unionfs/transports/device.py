"""The uses of /dev/fuse besides requests and replies: backing files and notices.

Source: fs/fuse/backing.c; fs/fuse/dev.c:fuse_notify().
"""

from __future__ import annotations

import errno
import fcntl
import os

from unionfs.syscalls.lowered import WithoutFsetid
from unionfs.types import NodeId
from unionfs.wire import abi, notify


class DeviceBackings:
    """Backing files, registered at /dev/fuse, that the kernel reads and writes by itself."""

    def __init__(self, fuse_fd: int) -> None:
        self._fuse_fd = fuse_fd
        self._lowered = WithoutFsetid()

    def register(self, fd: int, *, writes: bool) -> int:
        if not writes:
            return self._register(fd)
        # The kernel writes with the credentials of the thread that registers.
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

    def __init__(self, fuse_fd: int) -> None:
        self._fuse_fd = fuse_fd

    def forget_attributes(self, nodeid: NodeId) -> None:
        self._send(notify.inode(nodeid, -1, 0))

    def forget_inode(self, nodeid: NodeId) -> None:
        self._send(notify.inode(nodeid, 0, 0))

    def forget_name(self, parent: NodeId, name: bytes) -> None:
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
