"""One request as the session sees it, from /dev/fuse or from an io_uring.

A request that is read from /dev/fuse is in one buffer.  One from an io_uring has its
fixed part and its payload in two buffers, and the reply is written into that of the
payload.  `Request` says where the parts are.  It is made once for each buffer, and
its fields are set again for each request.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

from unionfs.light_typing import Protocol
from unionfs.types import NodeId
from unionfs.wire import abi
from unionfs.wire.abi import Opcode

_SHORT = 8192  # bytes that hold the body of any reply but data, listings and xattrs

Room = bytearray | mmap.mmap


def room_of(size: int) -> mmap.mmap:
    """Return a buffer of `size` bytes; only the pages that are used take memory."""
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    room.madvise(mmap.MADV_NOHUGEPAGE)
    return room


class Request:
    """Where one request and its reply are in memory.

    The opcode's own struct is in `args` from `at`; names and data in `data`
    from `start` up to `end`.  The reply's body goes into `out` from `body`, up
    to `limit` bytes.  `wait` says that the thread may wait for a disk.
    """

    __slots__ = (
        "args",
        "at",
        "body",
        "data",
        "end",
        "gid",
        "limit",
        "nodeid",
        "opcode",
        "out",
        "pid",
        "start",
        "uid",
        "unique",
        "wait",
    )

    def __init__(self, args: Room, at: int, data: Room, out: Room, body: int) -> None:
        self.args = args
        self.at = at
        self.data = data
        self.start = self.end = 0
        self.out = out
        self.body = body
        self.limit = len(out) - body
        self.wait = False
        self.unique = self.opcode = self.uid = self.gid = self.pid = 0
        self.nodeid = NodeId(0)

    def apart(self, argument_size: int) -> Request:
        """Return a copy with its own buffers, so that this one can take the next request.

        `argument_size` is the size in bytes of the opcode's own struct.
        """
        at = self.at
        args = bytearray(self.args[at : at + argument_size])
        data = bytearray(self.data[self.start : self.end])
        out = bytearray(self.body + _reply_size(self.opcode, args))
        copy = Request(args, 0, data, out, self.body)
        copy.end = len(data)
        copy.wait = True
        copy.opcode, copy.unique, copy.nodeid = self.opcode, self.unique, self.nodeid
        copy.uid, copy.gid, copy.pid = self.uid, self.gid, self.pid
        return copy

    def name(self) -> bytes:
        """Return the name that is the payload."""
        return bytes(self.data[self.start : self.end - 1])

    def names(self) -> list[bytes]:
        """Return the names in the payload, each ended by a NUL."""
        return bytes(self.data[self.start : self.end]).split(b"\0")

    def answer(self, value: bytes | bytearray) -> int:
        """Put `value` into the reply's body; return its length in bytes."""
        self.out[self.body : self.body + len(value)] = value
        return len(value)


def _reply_size(opcode: int, args: bytearray) -> int:
    """Return how many bytes the body of a reply can have."""
    if opcode in (Opcode.READ, Opcode.READDIR, Opcode.READDIRPLUS):
        return int(abi.READ_IN.unpack_from(args)[2])
    if opcode in (Opcode.GETXATTR, Opcode.LISTXATTR):
        return max(_SHORT, int(abi.GETXATTR_IN.unpack_from(args)[0]))
    return _SHORT


Handlers = list[tuple[Opcode, Callable[[Request], int], int]]


class Part(Protocol):
    """What handles some of the opcodes."""

    def handlers(self) -> Handlers:
        """Return each opcode with its handler and the size in bytes of its struct."""
        ...


class Defer(Exception):
    """The request may take long; nothing has been done yet.

    Each raise makes a new instance: one that is raised again keeps a reference to every
    frame that it has passed through.
    """
