"""What is undone of a request that was answered EINTR before it was done."""

from __future__ import annotations

import os

import pytest

from tests.unionfs.wire.kernel import EVERYTHING, init_request
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID, NodeId
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Request
from unionfs.wire.session import Session, Terms


class Notices:
    """What the kernel is told to forget."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, bytes]] = []

    def forget_attributes(self, nodeid: NodeId) -> None:
        self.told.append(("attributes", nodeid, b""))

    def forget_inode(self, nodeid: NodeId) -> None:
        self.told.append(("inode", nodeid, b""))

    def forget_name(self, parent: NodeId, name: bytes) -> None:
        self.told.append(("name", parent, name))


class Abandoned:
    """A session of which every request is undone after it was served."""

    def __init__(self, fs: UnionFs) -> None:
        self.session = Session(fs, Terms())
        self.session.init(init_request(EVERYTHING))
        self.notices = Notices()

    def ask(self, opcode: Opcode, nodeid: NodeId, args: bytes = b"", data: bytes = b"") -> int:
        """Serve the request, take it back, return the error of the reply."""
        message = bytearray(bytes(16) + args + data)
        first = Request(message, 16, message, bytearray(4096), 16)
        first.opcode, first.nodeid, first.unique = opcode, nodeid, 2
        first.start, first.end = 16 + len(args), len(message)
        request = first.apart(self.session.argument_size(opcode))
        head = bytearray(16)
        length = self.session.answer(request, head)
        self.session.take_back(request, length, self.notices)
        _, code, _ = abi.OUT_HEADER.unpack(head)
        return -int(code)


@pytest.fixture
def abandoned(fs: UnionFs) -> Abandoned:
    return Abandoned(fs)


def counts(fs: UnionFs) -> tuple[int, int]:
    found = fs.counters()
    return found["inodes"], found["handles"]


def test_references_are_given_back(fs: UnionFs, abandoned: Abandoned) -> None:
    before = counts(fs)
    assert abandoned.ask(Opcode.LOOKUP, ROOT_NODEID, data=b"f\0") == 0
    assert counts(fs) == before
    listing = abi.READ_IN.pack(0, 0, 4096, 0, 0, 0, 0)
    assert abandoned.ask(Opcode.READDIRPLUS, ROOT_NODEID, listing) == 0
    assert counts(fs) == before
    assert abandoned.notices.told == []


def test_handles_are_closed(fs: UnionFs, abandoned: Abandoned) -> None:
    before = counts(fs)
    attr = fs.lookup(ROOT_NODEID, b"f")
    assert attr is not None
    assert abandoned.ask(Opcode.OPEN, attr.nodeid, abi.OPEN_IN.pack(os.O_RDWR, 0)) == 0
    fs.forget(attr.nodeid, 1)
    created = abi.CREATE_IN.pack(os.O_RDWR, 0o644, 0, 0)
    assert abandoned.ask(Opcode.CREATE, ROOT_NODEID, created, b"new\0") == 0
    assert counts(fs) == before
    assert ("name", ROOT_NODEID, b"new") in abandoned.notices.told
    assert fs.lookup(ROOT_NODEID, b"new") is not None


def test_the_kernel_forgets_names_that_changed(fs: UnionFs, abandoned: Abandoned) -> None:
    move = abi.RENAME2_IN.pack(ROOT_NODEID, 0, 0)
    assert abandoned.ask(Opcode.RENAME2, ROOT_NODEID, move, b"f\0g\0") == 0
    assert abandoned.ask(Opcode.UNLINK, ROOT_NODEID, data=b"big\0") == 0
    names = [name for what, _, name in abandoned.notices.told if what == "name"]
    assert names == [b"f", b"g", b"big"]


def test_an_error_leaves_nothing_to_undo(fs: UnionFs, abandoned: Abandoned) -> None:
    before = counts(fs)
    assert abandoned.ask(Opcode.OPEN, NodeId(12345), abi.OPEN_IN.pack(os.O_RDONLY, 0)) != 0
    created = abi.CREATE_IN.pack(os.O_RDWR | os.O_EXCL, 0o644, 0, 0)
    assert abandoned.ask(Opcode.CREATE, ROOT_NODEID, created, b"x" * 300 + b"\0") != 0
    assert counts(fs) == before
