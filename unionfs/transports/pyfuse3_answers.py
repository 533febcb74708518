"""The answers of a union as pyfuse3 takes them, and the notices to the kernel.

Source: pyfuse3 `handlers.pxi`, `__init__.pyx:invalidate_inode()`.
"""

from __future__ import annotations

import os
from contextlib import suppress

import pyfuse3
from pyfuse3 import EntryAttributes, FileNameT, InodeT, ModeT, StatvfsData

from unionfs.types import ROOT_NODEID, Attr, NodeId, StIno

FOREVER = 1e9  # seconds; libfuse converts it to the kernel's 64 bits without overflow


class Answers:
    """The answers about inodes, which the kernel may remember for `timeout` seconds.

    `absent` is the one for a name that does not exist, None if it is not to be remembered.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self.absent: EntryAttributes | None = None
        if timeout:
            self.absent = EntryAttributes()
            self.absent.st_ino = InodeT(0)
            self.absent.entry_timeout = timeout

    def entry(self, attr: Attr) -> EntryAttributes:
        """Return the reply with a nodeid."""
        entry = EntryAttributes()
        st = attr.st
        entry.st_ino = InodeT(attr.nodeid)
        entry.st_mode = ModeT(st.st_mode)
        entry.st_nlink = attr.st_nlink
        entry.st_uid = attr.st_uid
        entry.st_gid = attr.st_gid
        entry.st_rdev = st.st_rdev
        entry.st_size = st.st_size
        entry.st_blksize = st.st_blksize
        entry.st_blocks = attr.st_blocks
        entry.st_atime_ns = st.st_atime_ns
        entry.st_mtime_ns = st.st_mtime_ns
        entry.st_ctime_ns = st.st_ctime_ns
        entry.entry_timeout = entry.attr_timeout = self._timeout
        return entry

    def attributes(self, attr: Attr) -> EntryAttributes:
        """Like `entry`, for a reply without a nodeid, in which the root has its st_ino."""
        entry = self.entry(attr)
        if attr.nodeid == ROOT_NODEID:
            entry.st_ino = InodeT(attr.st_ino)
        return entry


def name_only(st_ino: StIno | NodeId, d_type: int) -> EntryAttributes:
    """Return an entry of a listing of which the kernel takes no attributes."""
    entry = EntryAttributes()
    entry.st_ino = InodeT(st_ino)
    entry.st_mode = ModeT(d_type << 12)
    entry.entry_timeout = entry.attr_timeout = 0
    return entry


def statfs_of(real: os.statvfs_result) -> StatvfsData:
    """Return the answer to statfs(2)."""
    answer = StatvfsData()
    answer.f_bsize = real.f_bsize
    answer.f_frsize = real.f_frsize
    answer.f_blocks = real.f_blocks
    answer.f_bfree = real.f_bfree
    answer.f_bavail = real.f_bavail
    answer.f_files = real.f_files
    answer.f_ffree = real.f_ffree
    answer.f_favail = real.f_favail
    answer.f_namemax = real.f_namemax
    return answer


class Pyfuse3Notifier:
    """Notices to the kernel; see `vfs.Notifier`."""

    def forget_attributes(self, nodeid: NodeId) -> None:
        with suppress(FileNotFoundError):
            pyfuse3.invalidate_inode(InodeT(nodeid), attr_only=True)

    def forget_inode(self, nodeid: NodeId) -> None:
        with suppress(FileNotFoundError):
            pyfuse3.invalidate_inode(InodeT(nodeid))

    def forget_name(self, parent: NodeId, name: bytes) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            pyfuse3.invalidate_entry(InodeT(parent), FileNameT(name))
