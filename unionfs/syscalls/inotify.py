"""inotify(7), to learn that a filesystem has ended: that no process uses it any more.

umount(2) with MNT_DETACH tells nothing of that.  A file of the filesystem may be open in a
process that has received the descriptor, and then the filesystem goes on.
"""

from __future__ import annotations

import os
import select
import struct
import time

from unionfs.syscalls.libc import fail, libc

_IN_DELETE_SELF = 0x400  # there has to be an event to wait for; a root is not deleted
_IN_UNMOUNT = 0x2000
_IN_CLOEXEC, _IN_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK
_EVENT = struct.Struct("=iIII")
_BUFFER = 4096


class EndWatch:
    """Tells when the filesystem of a directory has ended; the caller calls `close`."""

    def __init__(self, directory: int) -> None:
        """Watch the filesystem of the open `directory`, which may be closed then.

        Raises OSError: EMFILE or ENOSPC if this user watches too much already.
        """
        self._fd = libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if self._fd < 0:
            raise fail()
        path = b"/proc/self/fd/%d" % directory
        if libc.inotify_add_watch(self._fd, path, _IN_DELETE_SELF) < 0:
            error = fail()
            self.close()
            raise error

    def ended_within(self, seconds: float) -> bool:
        """Wait for the end; tell whether it has come."""
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while poll.poll(max(0.0, until - time.monotonic()) * 1000):
            data = os.read(self._fd, _BUFFER)
            at = 0
            while at < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, at)
                if mask & _IN_UNMOUNT:
                    return True
                at += _EVENT.size + length
        return False

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
