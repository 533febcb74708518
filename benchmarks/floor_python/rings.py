"""The floors in Python over io_uring: a ring and a thread for each CPU.

Source: Documentation/filesystems/fuse/fuse-io-uring.rst; io_uring_enter(2).
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import traceback
from contextlib import suppress
from typing import NoReturn

from benchmarks.floor_python.answers import Handler, Handlers, Place
from unionfs.syscalls.io_uring import COMMAND_AT, Pinned, Ring, entry_of
from unionfs.syscalls.libc import libc
from unionfs.wire import abi
from unionfs.wire.request import room_of
from unionfs.wire.session import MAX_WRITE

DEPTH = 8
# Errnos when the filesystem is unmounted.
_ENDED = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED, errno.ENODEV)

_NR_ENTER = 426
_GETEVENTS = 1
_IOVEC = struct.Struct("=QQQQ")
# opcode, nodeid, commit_id, payload_sz
_REQUEST = struct.Struct("=4xI8xQ240xQI")
# Indexes of words of 4 bytes: of the error in the reply's header, of the payload's size.
_ERROR, _PAYLOAD = 1, (abi.URING_ENT + 16) >> 2
# Indexes of words of 8 bytes: of an entry's user_data, and of the commit_id.
_USER_DATA, _COMMIT = 4, (COMMAND_AT + 8) >> 3


class _Entry:
    """The memory of one request."""

    def __init__(self, handlers: Handlers) -> None:
        self.head, payload = bytearray(abi.URING_HEADER_SIZE), room_of(MAX_WRITE)
        pinned = Pinned(self.head), Pinned(payload)
        parts = bytearray(_IOVEC.size)
        _IOVEC.pack_into(parts, 0, pinned[0].address, len(self.head), pinned[1].address, MAX_WRITE)
        self._pinned = (*pinned, Pinned(parts))
        self.iovecs = self._pinned[2].address
        self.words = memoryview(self.head).cast("i")
        place = Place(self.head, abi.URING_OP_IN, payload, payload, 0)
        self.handlers: list[Handler] = handlers(place)


class Queue(Ring):
    """The ring of one CPU."""

    def __init__(self, cpu: int, device: int, handlers: Handlers) -> None:
        super().__init__(2 * DEPTH)
        self._cpu = cpu
        self._device = device
        self._entries = [_Entry(handlers) for _ in range(DEPTH)]

    def start(self) -> None:
        """Serve it from a thread, until the process ends with the mount."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):  # the CPU may be offline
            os.sched_setaffinity(0, {self._cpu})
        try:
            self._serve(self._register())
        except BaseException:
            traceback.print_exc()
        os._exit(1)  # never without this ring: the kernel would wait for it

    def _register(self) -> int:
        """Register the ring; return the entry with the first request."""
        self.enable()
        command = abi.URING_CMD_REQ.pack(0, 0, self._cpu)
        for index, entry in enumerate(self._entries):
            operation = abi.URING_CMD_REGISTER
            self.command(self._device, operation, index, command, entry.iovecs, 2)
        while (found := self.exchange(None)) is None:
            pass
        index, result = found
        if result < 0:
            _end(result)
        # The kernel has taken all entries: from now on each is a commit.
        commit = entry_of(self._device, abi.URING_CMD_COMMIT_AND_FETCH, 0, command)
        self._sqes[:] = bytes(commit) * (len(self._sqes) // len(commit))
        return index

    def _serve(self, index: int) -> NoReturn:
        enter, fd, words = libc["syscall"], self._fd, self._words
        sqes = memoryview(self._sqes).cast("Q")
        done = memoryview(self._rings)[: len(self._rings) & ~7].cast("Q")
        done_at, done_mask, sqe_mask = self._cqes >> 3, self._cq_mask, self._sq_mask
        queued_at, taken_at, done_tail = self._sq_tail, self._cq_head, self._cq_tail
        queued, taken = self._queued, self._taken
        entries = [(entry.head, entry.words, entry.handlers) for entry in self._entries]
        unpack = _REQUEST.unpack_from
        error, payload, user_data, commit = _ERROR, _PAYLOAD, _USER_DATA, _COMMIT
        while True:
            head, reply, handle = entries[index]
            opcode, nodeid, commit_id, size = unpack(head)
            try:
                length = handle[opcode](nodeid, size)
            except OSError as failed:
                length = -(failed.errno or errno.EIO)
            if length >= 0:
                reply[error] = 0
                reply[payload] = length
            else:
                reply[error] = length
                reply[payload] = 0
            at = (queued & sqe_mask) << 4
            sqes[at + user_data] = index
            sqes[at + commit] = commit_id
            queued = words[queued_at] = queued + 1 & 0xFFFFFFFF
            enter(_NR_ENTER, fd, 1, 1, _GETEVENTS, None, 0)
            while words[done_tail] == taken:  # a signal
                enter(_NR_ENTER, fd, 0, 1, _GETEVENTS, None, 0)
            at = done_at + ((taken & done_mask) << 1)
            if done[at + 1]:
                _end(done[at + 1])
            index = done[at]
            taken = words[taken_at] = taken + 1 & 0xFFFFFFFF


def _end(result: int) -> NoReturn:
    """End the process after a completion that brings no request."""
    failed = -result & 0xFFFFFFFF
    if failed in _ENDED:
        os._exit(0)
    raise OSError(failed, os.strerror(failed))
