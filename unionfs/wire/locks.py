"""flock(2) for a mount in which one file can be two inodes: passthrough=all.

The kernel keeps the locks of each of its inodes by itself, so a lock on the one would not
bind the other.  Here the key of a lock is st_ino, which both have.  Record locks (fcntl)
stay with the kernel: it would have to tell us of every close (FLUSH).

Source: fs/fuse/file.c:fuse_setlk(); fs/locks.c:flock_lock_inode().
"""

from __future__ import annotations

import errno
import fcntl
import threading

from unionfs.errors import fs_error
from unionfs.interrupts import is_interrupted, is_killed
from unionfs.types import StIno
from unionfs.vfs import DirectFilesystem
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Defer, Handlers, Request

# How many callers may wait for a lock at once.  Each takes a worker thread and an entry of
# a ring, of which others need some too.
MOST_WAITING = 16

LOOK_S = 0.05  # how often one who waits looks whether its caller got a signal
_LOOKS = 20  # and after how many looks whether the caller is being killed unnoticed


class Locks:
    """SETLK and SETLKW for flock(2), and what a RELEASE unlocks.

    The owner of a lock is the kernel's number for an open file description.
    """

    def __init__(self, fs: DirectFilesystem) -> None:
        self._fs = fs
        self._changed = threading.Condition()
        self._held: dict[StIno, dict[int, int]] = {}  # the kind of lock of each owner
        self._owned: dict[int, StIno] = {}
        self._waiting = 0
        fs.ask_of_locks(self._is_locked)

    def handlers(self) -> Handlers:
        """Return each opcode with its handler and the size in bytes of its struct."""
        return [
            (Opcode.SETLK, self._set, abi.LK_IN.size),
            (Opcode.SETLKW, self._set_or_wait, abi.LK_IN.size),
        ]

    def release(self, owner: int) -> None:
        """Unlock what `owner` has locked."""
        with self._changed:
            self._drop(owner)

    def _set(self, request: Request) -> int:
        asked = self._asked(request)
        with self._changed:
            if not self._try(*asked):
                raise fs_error(errno.EAGAIN)
        return 0

    def _set_or_wait(self, request: Request) -> int:
        asked = self._asked(request)
        with self._changed:
            if self._try(*asked):
                return 0
            if not request.wait:
                raise Defer
            if self._waiting == MOST_WAITING:
                raise fs_error(errno.ENOLCK)
            self._waiting += 1
        try:
            with self._fs.gate.outside():
                self._wait(asked)
        finally:
            with self._changed:
                self._waiting -= 1
        return 0

    def _wait(self, asked: tuple[StIno, int, int]) -> None:
        with self._changed:
            looks = 0
            while not self._try(*asked):
                looks += 1
                # The kernel loses an interrupt that comes while a ring takes the request.
                if is_interrupted() or (looks % _LOOKS == 0 and is_killed()):
                    raise fs_error(errno.EINTR)
                self._changed.wait(LOOK_S)

    def _asked(self, request: Request) -> tuple[StIno, int, int]:
        """Return which file is to be locked, for which owner, and in which way."""
        _, owner, _, _, kind, _, flags = abi.LK_IN.unpack_from(request.args, request.at)
        if not flags & abi.LK_FLOCK:
            raise fs_error(errno.ENOSYS)
        return self._fs.getattr(request.nodeid).st_ino, owner, kind

    def _try(self, st_ino: StIno, owner: int, kind: int) -> bool:
        """Give `owner` the lock, or take it away; False if others are in the way.

        A change of the kind of lock gives the old one up first, as in the kernel.
        """
        held = self._owned.get(owner)
        if held is not None and self._held[held][owner] == kind:
            return True
        self._drop(owner)
        if kind == fcntl.F_UNLCK:
            return True
        others = self._held.get(st_ino, {})
        if others and (kind == fcntl.F_WRLCK or fcntl.F_WRLCK in others.values()):
            return False
        self._held.setdefault(st_ino, {})[owner] = kind
        self._owned[owner] = st_ino
        return True

    def _is_locked(self, st_ino: StIno) -> bool:
        """Tell whether a lock of `st_ino` is held, or may be waited for."""
        with self._changed:
            return st_ino in self._held or self._waiting > 0

    def _drop(self, owner: int) -> None:
        st_ino = self._owned.pop(owner, None)
        if st_ino is None:
            return
        holders = self._held[st_ino]
        del holders[owner]
        if not holders:
            del self._held[st_ino]
        self._changed.notify_all()
