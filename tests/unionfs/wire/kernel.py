"""The kernel's side of the protocol, for tests of a session without a kernel."""

from __future__ import annotations

import itertools
import os

from unionfs.core.union import UnionFs
from unionfs.types import NodeId
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Request
from unionfs.wire.session import MAX_WRITE, Session, Terms

EVERYTHING = (1 << 62) - 1


class Table:
    """Stands for the kernel's table of backing files."""

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        self._ids = itertools.count(100)

    def register(self, fd: int, *, writes: bool) -> int:
        backing_id = next(self._ids)
        self.open[backing_id] = fd
        return backing_id

    def close(self, backing_id: int) -> None:
        del self.open[backing_id]


class Kernel:
    """Asks a session what the kernel would, and takes the replies apart."""

    def __init__(
        self,
        fs: UnionFs,
        terms: Terms,
        offered: int = EVERYTHING,
        *,
        session: Session | None = None,
    ) -> None:
        self.session = session or Session(fs, terms)
        self.reply = self.session.init(init_request(offered))

    def ask(
        self,
        opcode: Opcode,
        nodeid: NodeId,
        args: bytes = b"",
        data: bytes = b"",
        *,
        pid: int = 0,
        wait: bool = True,
    ) -> bytes:
        """Return the reply's body."""
        message = bytearray(args + data)
        out = bytearray(16 + MAX_WRITE)
        request = Request(message, 0, message, out, 16)
        request.opcode, request.nodeid, request.pid = opcode, nodeid, pid
        request.start, request.end, request.wait = len(args), len(message), wait
        assert self.session.argument_size(opcode) == len(args)
        return reply_to(self.session, request)

    def lookup(self, parent: NodeId, name: bytes) -> tuple[int, ...]:
        body = self.ask(Opcode.LOOKUP, parent, data=name + b"\0")
        assert len(body) == abi.ENTRY_SIZE
        return (
            *abi.ENTRY_HEAD.unpack_from(body)[:1],
            *abi.ENTRY_VALID.unpack_from(body, 8),
            *abi.ATTR.unpack_from(body, abi.ENTRY_HEAD.size),
        )

    def nodeid(self, parent: NodeId, name: bytes) -> NodeId:
        return NodeId(self.lookup(parent, name)[0])

    def open(self, nodeid: NodeId, flags: int, *, wait: bool = True) -> tuple[int, int, int]:
        """Return fh, open_flags, backing_id."""
        body = self.ask(Opcode.OPEN, nodeid, abi.OPEN_IN.pack(flags, 0), wait=wait)
        fh, open_flags, backing_id = abi.OPEN_OUT.unpack(body)
        return fh, open_flags, backing_id

    def release(self, nodeid: NodeId, fh: int) -> None:
        self.ask(Opcode.RELEASE, nodeid, abi.RELEASE_IN.pack(fh, 0, 0, 0))


def reply_to(session: Session, request: Request) -> bytes:
    """Return the body of the reply; raises the `OSError` that the reply says."""
    head = bytearray(abi.OUT_HEADER.size)
    length = session.answer(request, head)
    said, code, unique = abi.OUT_HEADER.unpack(head)
    assert (said, unique) == (length, request.unique)
    if code:
        raise OSError(-code, os.strerror(-code))
    return bytes(request.out[request.body : request.body + length - len(head)])


def init_request(offered: int, minor: int = 45) -> bytes:
    body = abi.INIT_IN.pack(7, minor, 1 << 17, offered & 0xFFFFFFFF)
    body += abi.INIT_IN_FLAGS2.pack(offered >> 32) + bytes(44)
    return abi.IN_HEADER.pack(40 + len(body), Opcode.INIT, 7, 0, 0, 0, 0, 0) + body


class Given:
    """Stands for the kernel's pages."""

    def __init__(self) -> None:
        self.files: list[tuple[int, bytes]] = []
        self.forgotten: list[NodeId] = []
        self.dropped: list[NodeId] = []

    def store(self, nodeid: NodeId, data: bytes | bytearray) -> None:
        self.files.append((nodeid, bytes(data)))

    def forget_attributes(self, nodeid: NodeId) -> None:
        self.forgotten.append(nodeid)

    def forget_inode(self, nodeid: NodeId) -> None:
        self.dropped.append(nodeid)
