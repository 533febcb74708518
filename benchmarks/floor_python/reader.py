"""The floors in Python over /dev/fuse: one thread reads, and follows its client from CPU to CPU."""

from __future__ import annotations

import errno
import os
import struct
import time
import traceback
from contextlib import suppress
from typing import NoReturn

from benchmarks.floor_python.answers import Handlers, Place
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import room_of
from unionfs.wire.session import BUFFER_SIZE

_HEAD = abi.OUT_HEADER.size
_BODY = abi.IN_HEADER.size
_TOGETHER_S = 0.004  # how long FORGETs are waited for, with rings
# opcode, unique, nodeid, pid
_REQUEST = struct.Struct("=4xIQQ8xI")
_SHORT = 512  # bytes of a reply whose memory is sliced once for all

# After how many requests of a client to look where it runs: at first, and then.
_FIRST, _LEAST, _MOST = 2, 16, 512
_PROCESSOR = 36  # the field in /proc/PID/stat, counted from the first after the name
_FORGETS = (int(Opcode.FORGET), int(Opcode.BATCH_FORGET))
_RELEASE = int(Opcode.RELEASE)
_AGAIN = (errno.ENOENT, errno.EINTR, errno.EAGAIN)


class _Client:
    """The process whose requests come, as unionfs/transports/reader.py follows it."""

    def __init__(self) -> None:
        self.interval = _LEAST
        self._pid = 0
        self._fd = self._cpu = -1

    def look(self, pid: int) -> None:
        """Go where process `pid` runs."""
        cpu = self._cpu
        with suppress(OSError, ValueError, IndexError):  # it has ended
            if pid != self._pid:
                if self._fd >= 0:
                    os.close(self._fd)
                self._fd, self._pid = -1, pid
                self._fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
            data = os.pread(self._fd, 1024, 0)
            cpu = int(data[data.rindex(b")") + 2 :].split()[_PROCESSOR])
        if cpu == self._cpu:
            self.interval = min(_MOST, 2 * self.interval)
        else:
            self._cpu, self.interval = cpu, _LEAST
            os.sched_setaffinity(0, {cpu})


def serve(device: int, handlers: Handlers, *, rings: bool) -> NoReturn:
    """Answer what is read, until the process ends with the mount."""
    try:
        _serve(device, handlers, rings)
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ECONNABORTED):
            traceback.print_exc()
            os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # unmounted


def _serve(device: int, handlers: Handlers, rings: bool) -> NoReturn:
    buffer, out = room_of(BUFFER_SIZE), room_of(BUFFER_SIZE)
    handle = handlers(Place(buffer, _BODY, buffer, out, _HEAD))
    whole = memoryview(out)
    replies = [whole[: _HEAD + length] for length in range(_SHORT)]
    into, client = [buffer], _Client()
    readv, write, unpack, pack = os.readv, os.write, _REQUEST.unpack_from, abi.OUT_HEADER.pack_into
    last, left = 0, _FIRST
    while True:
        try:
            length = readv(device, into)
        except OSError as error:
            if error.errno in _AGAIN:
                continue
            raise
        opcode, unique, nodeid, pid = unpack(buffer)
        if opcode in _FORGETS:
            handle[opcode](nodeid, length)
            if rings:
                time.sleep(_TOGETHER_S)
            continue
        if pid == last:
            left -= 1
            if not left and not rings:
                client.look(pid)
                left = client.interval
        elif opcode != _RELEASE:  # it does not say who closed
            last, left, client.interval = pid, _FIRST, _LEAST
        try:
            length = handle[opcode](nodeid, length)
        except OSError as error:
            length = -(error.errno or errno.EIO)
        if length < 0:
            pack(out, 0, _HEAD, length, unique)
            length = 0
        else:
            pack(out, 0, _HEAD + length, 0, unique)
        try:
            write(device, replies[length] if length < _SHORT else whole[: _HEAD + length])
        except OSError as error:
            if error.errno != errno.ENOENT:  # the client was killed
                raise
