"""io_uring(7), as far as FUSE-over-io_uring needs it: commands on one file, and a wake-up.

Threading: a ring is used by one thread; `Ring.wake` may be called from any.
On x86 a store to the shared rings is seen in order by the kernel; elsewhere
io_uring_enter(2), which follows each of ours, is the barrier.

Source: io_uring_setup(2), io_uring_enter(2); linux/io_uring.h.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct

from unionfs.errors import fs_error
from unionfs.syscalls.libc import fail, libc

_NR_SETUP = 425
_NR_ENTER = 426
_NR_REGISTER = 427
_SETUP_SQE128 = 1 << 10
# With DEFER_TASKRUN the thread that waits for completions produces them, and must be
# the one that enables the ring.
_SETUP_R_DISABLED = 1 << 6
_SETUP_SINGLE_ISSUER = 1 << 12
_SETUP_DEFER_TASKRUN = 1 << 13
_SETUP = _SETUP_SQE128 | _SETUP_R_DISABLED | _SETUP_SINGLE_ISSUER | _SETUP_DEFER_TASKRUN
_REGISTER_ENABLE_RINGS = 12
_FEAT_SINGLE_MMAP = 1 << 0
_ENTER_GETEVENTS = 1 << 0
_OFF_SQ_RING = 0
_OFF_SQES = 0x10000000

_OP_READ = 22
_OP_URING_CMD = 46

_SQE_SIZE = 128
# opcode, flags, ioprio, fd, cmd_op, pad, addr, len, cmd_flags, user_data, 16 bytes unused
_SQE = struct.Struct("=BBHiIIQIIQ16x")
COMMAND_AT = 48  # where the 80 bytes for the command begin
_CQE_SIZE = 16
_CQE = struct.Struct("=Qi4x")
# sq_entries, cq_entries, flags, ..., features, ..., then the two tables of offsets
_PARAMS = struct.Struct("=IIIIIIIIII")
_OFFSETS = struct.Struct("=IIIIIIIIQ")
_PARAMS_SIZE = _PARAMS.size + 2 * _OFFSETS.size

WAKE = (1 << 64) - 1  # the user_data of a completion that `Ring.wake` caused

# A separate object without a prototype: ctypes passes an int as C's int, which
# suffices for io_uring_enter(2), and converting seven arguments by declared types
# would double the cost of the call.
_enter = libc["syscall"]


def entry_of(
    fd: int, operation: int, user_data: int, command: bytes, iovecs: int = 0, count: int = 0
) -> bytearray:
    """Return the submission entry of a command for `fd`, for `Ring.exchange`.

    The command, of at most 80 bytes, begins at `COMMAND_AT`, and may be overwritten
    between two uses.
    """
    entry = bytearray(_SQE_SIZE)
    _SQE.pack_into(entry, 0, _OP_URING_CMD, 0, 0, fd, operation, 0, iovecs, count, 0, user_data)
    entry[COMMAND_AT : COMMAND_AT + len(command)] = command
    return entry


class Pinned:
    """Keeps a buffer at its `address`, for the kernel, as long as this object lives."""

    def __init__(self, buffer: bytearray | mmap.mmap) -> None:
        self._exported = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        self.address = ctypes.addressof(self._exported)


class Ring:
    """One io_uring with entries of 128 bytes."""

    def __init__(self, entries: int) -> None:
        """Set up a ring for `entries` requests under way at once.

        Raises EPERM if io_uring is switched off, ENOSYS if the kernel has none, EINVAL
        before Linux 6.1.
        """
        params = bytearray(_PARAMS_SIZE)
        _PARAMS.pack_into(params, 0, 0, 0, _SETUP, 0, 0, 0, 0, 0, 0, 0)
        shared = (ctypes.c_char * _PARAMS_SIZE).from_buffer(params)
        self._fd = libc.syscall(_NR_SETUP, ctypes.c_uint(entries), shared)
        if self._fd < 0:
            raise fail()
        del shared
        try:
            self._map(params)
            self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
        except BaseException:
            os.close(self._fd)
            raise
        self._woken = Pinned(bytearray(8))
        self._unsubmitted = 0
        # The ends of the two rings that this side moves; they are stored for the kernel too.
        self._queued = self._taken = 0
        self._listen()

    def enable(self) -> None:
        """Enable the ring; from now on only the calling thread may use it."""
        if libc.syscall(_NR_REGISTER, self._fd, _REGISTER_ENABLE_RINGS, None, 0) != 0:
            raise fail()

    def _map(self, params: bytearray) -> None:
        sq_entries, cq_entries, _, _, _, features, *_ = _PARAMS.unpack_from(params)
        if not features & _FEAT_SINGLE_MMAP:
            raise fs_error(errno.ENOSYS)
        sq = _OFFSETS.unpack_from(params, _PARAMS.size)
        cq = _OFFSETS.unpack_from(params, _PARAMS.size + _OFFSETS.size)
        size = max(sq[6] + sq_entries * 4, cq[5] + cq_entries * _CQE_SIZE)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._rings = mmap.mmap(self._fd, size, flags, offset=_OFF_SQ_RING)
        self._sqes = mmap.mmap(self._fd, sq_entries * _SQE_SIZE, flags, offset=_OFF_SQES)
        self._words = memoryview(self._rings)[: size & ~3].cast("I")
        self._sq_tail, self._sq_mask = sq[1] >> 2, self._words[sq[2] >> 2]
        self._cq_head, self._cq_tail = cq[0] >> 2, cq[1] >> 2
        self._cq_mask, self._cqes = self._words[cq[2] >> 2], cq[5]
        array = sq[6] >> 2
        for index in range(sq_entries):
            self._words[array + index] = index

    def command(
        self,
        fd: int,
        operation: int,
        user_data: int,
        command: bytes,
        iovecs: int = 0,
        count: int = 0,
    ) -> None:
        """Queue a command for `fd`, sent by the next `exchange`.

        `command` is at most 80 bytes; `iovecs` the address of `count` iovecs.
        """
        self.queue(entry_of(fd, operation, user_data, command, iovecs, count))

    def queue(self, entry: bytes | bytearray) -> None:
        """Queue `entry`, sent by the next `exchange`."""
        words = self._words
        at = (self._queued & self._sq_mask) * _SQE_SIZE
        self._sqes[at : at + _SQE_SIZE] = entry
        self._queued = words[self._sq_tail] = self._queued + 1 & 0xFFFFFFFF
        self._unsubmitted += 1

    def _listen(self) -> None:
        """Queue the read that completes when `wake` is called."""
        head = _SQE.pack(_OP_READ, 0, 0, self._wake_fd, 0, 0, self._woken.address, 8, 0, WAKE)
        self.queue(head.ljust(_SQE_SIZE, b"\0"))

    def wake(self) -> None:
        """Make `exchange` return a completion with the user_data `WAKE`."""
        os.eventfd_write(self._wake_fd, 1)

    def submit(self) -> list[tuple[int, int]]:
        """Submit the queued entries; return user_data and result of what the kernel refused.

        What it has accepted does not complete before `exchange` (IORING_SETUP_DEFER_TASKRUN).
        """
        while self._unsubmitted:
            done: int = _enter(_NR_ENTER, self._fd, self._unsubmitted, 0, 0, None, 0)
            if done >= 0:
                self._unsubmitted -= done
            elif (error := fail()).errno != errno.EINTR:
                raise error
        refused = []
        while self._taken != self._words[self._cq_tail] and (found := self.exchange(None)):
            refused.append(found)
        return refused

    def exchange(self, entry: bytearray | None) -> tuple[int, int] | None:
        """Queue `entry`, as `entry_of` makes them, and take the next completion.

        Submits the queued entries and waits if there is no completion yet.  Returns the
        completion's user_data and result, which is a negative errno for a failure; or
        None after a signal: the caller tries again.
        """
        if entry is not None:
            self.queue(entry)
        words = self._words
        head = self._taken
        wait = head == words[self._cq_tail]
        if wait or self._unsubmitted:
            queued = self._unsubmitted
            done: int = _enter(_NR_ENTER, self._fd, queued, wait, _ENTER_GETEVENTS, None, 0)
            if done >= 0:
                self._unsubmitted -= done
            elif (error := fail()).errno != errno.EINTR:
                raise error
            if wait and head == words[self._cq_tail]:
                return None
        found: tuple[int, int] = _CQE.unpack_from(
            self._rings, self._cqes + (head & self._cq_mask) * _CQE_SIZE
        )
        self._taken = words[self._cq_head] = head + 1 & 0xFFFFFFFF
        if found[0] == WAKE:
            self._listen()
        return found

    def close(self) -> None:
        """Close the ring; commands under way are cancelled."""
        self._words.release()
        self._rings.close()
        self._sqes.close()
        os.close(self._fd)
        os.close(self._wake_fd)
