"""Literal bytes of requests and replies, by the layouts of include/uapi/linux/fuse.h.

Each byte of a request's struct is different, so a field that is read from the wrong
place, or with the wrong size, is found.  Nothing here is packed with the product's
own structs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import ANY

import pytest

from tests.unionfs.wire.kernel import reply_to
from unionfs.credentials import Credentials
from unionfs.types import Attr, DirEntry, LookedUp, NodeId, SetAttr, StIno
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Defer, Request
from unionfs.wire.session import Session, Terms

NODEID = NodeId(0x0807060504030201)
NO_PID = 1 << 23  # no process has a number above 2^22
# Eight or four bytes, and the number they are (little-endian).
U64 = {n: bytes(range(16 * n + 1, 16 * n + 9)) for n in range(1, 15)}
U32 = {n: data[:4] for n, data in U64.items()}


def n64(n: int) -> int:
    return sum(byte << 8 * place for place, byte in enumerate(U64[n]))


def n32(n: int) -> int:
    return sum(byte << 8 * place for place, byte in enumerate(U32[n]))


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


ST = os.stat_result(
    (0o100640, 0, 0, 1, 0, 0, 0x21222324, 31, 32, 33),
    {
        "st_atime_ns": 31 * 10**9 + 41,
        "st_mtime_ns": 32 * 10**9 + 42,
        "st_ctime_ns": 33 * 10**9 + 43,
        "st_blksize": 4096,
        "st_rdev": 0x51,
    },
)
ATTR = Attr(
    nodeid=NodeId(0x61),
    st_ino=StIno(0x62),
    st_nlink=0x63,
    st_uid=0x64,
    st_gid=0x65,
    st_blocks=0x66,
    st=ST,
)
# struct fuse_attr
ATTR_BYTES = b"".join(
    (
        *map(u64, (0x62, 0x21222324, 0x66, 31, 32, 33)),
        *map(u32, (41, 42, 43, 0o100640, 0x63, 0x64, 0x65, 0x51, 4096, 0)),
    )
)
# struct fuse_entry_out and fuse_attr_out with a validity of 2.5 s
ENTRY = u64(0x61) + u64(0) + u64(2) + u64(2) + u32(500_000_000) * 2 + ATTR_BYTES
ATTR_OUT = u64(2) + u32(500_000_000) + u32(0) + ATTR_BYTES
OPEN_OUT = u64(0x71) + u32(1 << 5) + u32(0)  # FOPEN_NOFLUSH
STATFS = os.statvfs_result((1, 2, 3, 4, 5, 6, 7, 8, 9, 10))


class Recorder:
    """A filesystem that notes what is asked of it, and answers what it was given."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.calls: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: object, **named: object) -> object:
            plain = [bytes(arg) if isinstance(arg, memoryview) else arg for arg in args]
            self.calls.append((name, *plain, *named.values()))
            return self.answers.get(name)

        return call


class Case(NamedTuple):
    """A request without its header, what the filesystem is asked, and the reply."""

    opcode: Opcode
    request: bytes
    calls: list[tuple[object, ...]]
    reply: bytes = b""
    answers: Mapping[str, object] = MappingProxyType({})


def open_flags(base: int) -> bytes:
    return u32(base | os.O_CLOEXEC)


CREATED = {"create": (ATTR, 0x71), "tmpfile": (ATTR, 0x71)}
CASES = (
    Case(Opcode.LOOKUP, b"name\0", [("lookup", NODEID, b"name"), ("getattr", 0x61)], ENTRY,
         {"lookup": ATTR, "getattr": ATTR}),
    Case(Opcode.SYMLINK, b"new\0to\0", [("symlink", NODEID, b"new", b"to", 5, 6)], ENTRY,
         {"symlink": ATTR}),
    Case(Opcode.MKNOD, U32[1] + U32[2] + U32[3] + U32[4] + b"n\0",
         [("mknod", NODEID, b"n", n32(1), n32(2), n32(3), 5, 6)], ENTRY, {"mknod": ATTR}),
    Case(Opcode.MKDIR, U32[1] + U32[2] + b"n\0",
         [("mkdir", NODEID, b"n", n32(1), n32(2), 5, 6)], ENTRY, {"mkdir": ATTR}),
    Case(Opcode.UNLINK, b"n\0", [("unlink", NODEID, b"n")]),
    Case(Opcode.RMDIR, b"n\0", [("rmdir", NODEID, b"n")]),
    Case(Opcode.RENAME, U64[1] + b"a\0b\0", [("rename", NODEID, b"a", n64(1), b"b", 0)]),
    Case(Opcode.RENAME2, U64[1] + U32[2] + U32[3] + b"a\0b\0",
         [("rename", NODEID, b"a", n64(1), b"b", n32(2))]),
    Case(Opcode.LINK, U64[1] + b"n\0", [("link", n64(1), NODEID, b"n")], ENTRY, {"link": ATTR}),
    # getattr_flags FUSE_GETATTR_FH, dummy, fh
    Case(Opcode.GETATTR, u32(1) + U32[2] + U64[3], [("getattr", NODEID, n64(3))], ATTR_OUT,
         {"getattr": ATTR}),
    Case(Opcode.GETATTR, u32(0) + U32[2] + U64[3], [("getattr", NODEID, None)], ATTR_OUT,
         {"getattr": ATTR}),
    Case(Opcode.READLINK, b"", [("readlink", NODEID)], b"target", {"readlink": b"target"}),
    # bsize, frsize, blocks, bfree, bavail, files, ffree, favail, flag, namemax of statvfs
    Case(Opcode.STATFS, b"", [("statfs",)],
         b"".join(map(u64, (3, 4, 5, 6, 7))) + u32(1) + u32(10) + u32(2) + bytes(28),
         {"statfs": STATFS}),
    Case(Opcode.SYNCFS, U64[1], [("syncfs",)]),
    Case(Opcode.OPEN, open_flags(os.O_WRONLY) + u32(0),
         [("open", NODEID, os.O_WRONLY | os.O_CLOEXEC)], OPEN_OUT, {"open": 0x71}),
    Case(Opcode.CREATE, open_flags(os.O_RDWR) + U32[2] + U32[3] + U32[4] + b"n\0",
         [("create", NODEID, b"n", n32(2), os.O_RDWR | os.O_CLOEXEC, n32(3), 5, 6)],
         ENTRY + OPEN_OUT, CREATED),
    Case(Opcode.TMPFILE, open_flags(os.O_RDWR) + U32[2] + U32[3] + U32[4] + b"\0",
         [("tmpfile", NODEID, n32(2), os.O_RDWR | os.O_CLOEXEC, n32(3), 5, 6)],
         ENTRY + OPEN_OUT, CREATED),
    # fh, offset, size, read_flags, lock_owner, flags, padding
    Case(Opcode.READ, U64[1] + U64[2] + u32(4) + U32[4] + U64[5] + U32[6] + U32[7],
         [("readinto", n64(1), n64(2), bytes(4), True)], bytes(3), {"readinto": 3}),
    Case(Opcode.WRITE, U64[1] + U64[2] + u32(4) + u32(0) + U64[5] + U32[6] + U32[7] + b"data",
         [("write", n64(1), n64(2), b"data")], u32(4) + u32(0), {"write": 4}),
    # write_flags FUSE_WRITE_KILL_SUIDGID
    Case(Opcode.WRITE, U64[1] + U64[2] + u32(4) + u32(4) + U64[5] + U32[6] + U32[7] + b"data",
         [("drop_suid", n64(1), (NO_PID, 6)), ("write", n64(1), n64(2), b"data")], u32(4) + u32(0),
         {"write": 4, "drop_suid": False}),
    Case(Opcode.RELEASE, U64[1] + U32[2] + U32[3] + U64[4], [("release", n64(1))]),
    Case(Opcode.FSYNC, U64[1] + u32(1) + U32[3], [("fsync", n64(1), True)]),
    Case(Opcode.FSYNCDIR, U64[1] + u32(1) + U32[3], [("syncdir", NODEID)]),
    # fh, offset, length, mode, padding
    Case(Opcode.FALLOCATE, U64[1] + U64[2] + U64[3] + U32[4] + U32[5],
         [("has_suid", n64(1)), ("fallocate", n64(1), n32(4), n64(2), n64(3))]),
    Case(Opcode.LSEEK, U64[1] + U64[2] + U32[3] + U32[4],
         [("lseek", n64(1), n64(2), n32(3))], U64[5], {"lseek": n64(5)}),
    # The offset is signed.
    Case(Opcode.LSEEK, U64[1] + b"\xfe" + b"\xff" * 7 + u32(3) + U32[4],
         [("lseek", n64(1), -2, 3)], U64[5], {"lseek": n64(5)}),
    # fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
    Case(Opcode.COPY_FILE_RANGE, U64[1] + U64[2] + U64[3] + U64[4] + U64[5] + u64(9) + U64[7],
         [("has_suid", n64(4)), ("copy_range", n64(1), n64(2), n64(4), n64(5), 9)],
         u32(9) + u32(0), {"copy_range": 9}),
    Case(Opcode.COPY_FILE_RANGE_64, U64[1] + U64[2] + U64[3] + U64[4] + U64[5] + u64(9) + U64[7],
         [("has_suid", n64(4)), ("copy_range", n64(1), n64(2), n64(4), n64(5), 9)],
         u64(9), {"copy_range": 9}),
    # size, padding: the size alone, and the value
    Case(Opcode.GETXATTR, u32(0) + U32[2] + b"user.a\0",
         [("lacks_xattr", NODEID, b"user.a"), ("getxattr", NODEID, b"user.a")],
         u32(5) + u32(0), {"getxattr": b"value"}),
    Case(Opcode.GETXATTR, u32(99) + U32[2] + b"user.a\0",
         [("lacks_xattr", NODEID, b"user.a"), ("getxattr", NODEID, b"user.a")],
         b"value", {"getxattr": b"value"}),
    Case(Opcode.LISTXATTR, u32(99) + U32[2], [("listxattr", NODEID)], b"user.a\0user.b\0",
         {"listxattr": [b"user.a", b"trusted.c", b"user.b"]}),
    # size, flags, setxattr_flags, padding
    Case(Opcode.SETXATTR, u32(5) + U32[2] + u32(0) + U32[4] + b"user.a\0value",
         [("setxattr", NODEID, b"user.a", b"value", n32(2))]),
    Case(Opcode.REMOVEXATTR, b"user.a\0", [("removexattr", NODEID, b"user.a")]),
    # fh, flags, cmd, arg, in_size, out_size; result, flags, in_iovs, out_iovs
    Case(Opcode.IOCTL, U64[1] + U32[2] + U32[3] + U64[4] + u32(4) + U32[6] + b"data",
         [("fileattr", NODEID, n32(3), b"data")], bytes(16) + b"reply", {"fileattr": b"reply"}),
    # fh, offset, size, ...: ino, off, namelen, type, name
    Case(Opcode.READDIR, U64[1] + U64[2] + u32(999) + U32[4] + U64[5] + U32[6] + U32[7],
         [("listdir", NODEID, n64(2))], u64(0x93) + u64(0x91) + u32(4) + u32(8) + b"name\0\0\0\0",
         {"listdir": [DirEntry(0x91, b"name", 8, StIno(0x93))]}),
    Case(Opcode.READDIRPLUS, U64[1] + U64[2] + u32(999) + U32[4] + U64[5] + U32[6] + U32[7],
         [("list_looked_up", NODEID, n64(2), LookedUp.EVERYTHING, ANY)],
         ENTRY + u64(0x62) + u64(0x91) + u32(4) + u32(4) + b"name\0\0\0\0"
         + bytes(128) + u64(0x93) + u64(0x92) + u32(4) + u32(8) + b"file\0\0\0\0",
         {"list_looked_up": [(0x91, b"name", 4, StIno(0x62), ATTR),
                             (0x92, b"file", 8, StIno(0x93), None)]}),
)  # fmt: skip


def asked(fs: Recorder, opcode: Opcode, message: bytes) -> bytes:
    session = Session(fs, Terms(timeout=2.5))
    offered = (1 << 30) | (1 << 29)  # FUSE_INIT_EXT, FUSE_SETXATTR_EXT
    # len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding
    header = u32(104) + u32(26) + u64(1) + u64(0) + u32(0) * 3 + bytes(4)
    session.init(header + u32(7) + u32(45) + u32(1 << 17) + u32(offered) + bytes(48))
    fs.calls.clear()
    size = session.argument_size(opcode)
    data, out = bytearray(message), bytearray(1 << 16)
    request = Request(data, 0, data, out, 16)
    request.opcode, request.nodeid = opcode, NODEID
    request.uid, request.gid, request.pid, request.wait = 5, 6, NO_PID, True
    request.start, request.end = size, len(message)
    return reply_to(session, request)


def plain(call: tuple[object, ...]) -> tuple[object, ...]:
    return tuple((arg.pid, arg.gid) if isinstance(arg, Credentials) else arg for arg in call)


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{number}-{case.opcode.name}" for number, case in enumerate(CASES)]
)
def test_request_and_reply(case: Case) -> None:
    fs = Recorder(**case.answers)
    reply = asked(fs, case.opcode, case.request)
    assert [plain(call) for call in fs.calls] == case.calls
    assert reply == case.reply


def test_setattr() -> None:
    """valid, padding, fh, size, lock_owner, times, their ns, mode, unused, uid, gid, unused."""
    valid = 1 | 2 | 4 | 8 | 16 | 32 | 64 | 1 << 11
    message = (
        u32(valid) + U32[1] + U64[2] + U64[3] + U64[4] + u64(10) + u64(11) + u64(12)
        + u32(20) + u32(21) + u32(22) + u32(0o100751) + U32[5] + U32[6] + U32[7] + U32[8]
    )  # fmt: skip
    fs = Recorder(setattr=ATTR)
    assert asked(fs, Opcode.SETATTR, message) == ATTR_OUT
    change = SetAttr(0o751, n32(6), n32(7), n64(3), 10 * 10**9 + 20, 11 * 10**9 + 21)
    assert [plain(call) for call in fs.calls] == [("setattr", NODEID, change, n64(2), (NO_PID, 6))]


def test_statx() -> None:
    """getattr_flags, reserved, fh, sx_flags, sx_mask; validity, flags, spare, struct statx."""
    shown = bytes(range(256))
    fs = Recorder(statx=(ATTR, bytearray(shown)))
    reply = asked(fs, Opcode.STATX, U32[1] + U32[2] + U64[3] + U32[4] + U32[5])
    assert fs.calls == [("statx", NODEID, n32(5))]
    assert reply[:32] == u64(2) + u32(500_000_000) + u32(0) + bytes(16)
    assert reply[32:] == shown


def test_forgets() -> None:
    fs = Recorder()
    session = Session(fs, Terms())
    fs.calls.clear()
    session.forget(Opcode.FORGET, NodeId(9), U64[1], 0)
    session.forget(
        Opcode.BATCH_FORGET, NodeId(0), u32(2) + u32(0) + U64[1] + U64[2] + U64[3] + U64[4], 0
    )
    assert fs.calls == [
        ("forget", 9, n64(1)),
        ("forget", n64(1), n64(2)),
        ("forget", n64(3), n64(4)),
    ]


def test_every_opcode_that_is_answered_is_here() -> None:
    session = Session(Recorder(), Terms())
    header = u32(104) + u32(26) + u64(1) + u64(0) + u32(0) * 3 + bytes(4)
    session.init(header + u32(7) + u32(45) + u32(1 << 17) + u32(1 << 30) + bytes(48))
    answered = set()
    for opcode in Opcode:
        request, head = (
            Request(bytearray(512), 0, bytearray(512), bytearray(512), 16),
            bytearray(16),
        )
        request.opcode = opcode
        with suppress(Defer):
            session.answer(request, head)  # most fail in another way: the bytes mean nothing
        if head[4:8] != (-errno.ENOSYS).to_bytes(4, "little", signed=True):
            answered.add(opcode)
    assert answered == {case.opcode for case in CASES} | {Opcode.SETATTR, Opcode.STATX}


def test_header_and_error() -> None:
    header = U32[1] + U32[2] + U64[3] + U64[4] + U32[5] + U32[6] + U32[7] + b"\xe1\xe2" + bytes(2)
    fields = (n32(1), n32(2), n64(3), n64(4), n32(5), n32(6), n32(7), 0xE2E1)
    assert abi.IN_HEADER.unpack(header) == fields
    request = Request(bytearray(), 0, bytearray(), bytearray(16), 16)
    request.opcode, request.unique = Opcode.OPENDIR, n64(3)
    out = bytearray(16)
    assert Session(Recorder(), Terms()).answer(request, out) == 16
    assert out == u32(16) + (-errno.ENOSYS).to_bytes(4, "little", signed=True) + U64[3]
