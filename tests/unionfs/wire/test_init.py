"""INIT byte by byte, as kernels of several ages send it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unionfs.wire.kernel import reply_to
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union
from unionfs.core.union import UnionFs
from unionfs.errors import FIRST_INTERNAL
from unionfs.wire.abi import Init, Opcode
from unionfs.wire.request import Request
from unionfs.wire.session import Session, Terms


class NoBackings:
    def register(self, fd: int, *, writes: bool) -> int:
        raise AssertionError

    def close(self, backing_id: int) -> None:
        raise AssertionError


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[UnionFs]:
    union = open_union(UnionConfig(lowers=(os.fsencode(tmp_path),)))
    yield union
    union.close()


def octets(text: str) -> bytes:
    return bytes.fromhex(text.replace("\n", " "))


# Header: length, INIT, unique 2, nodeid 0, uid 0, gid 0, pid 0, no extensions.
HEADER = "1a000000 0200000000000000 0000000000000000 00000000 00000000 00000000 00000000"

# 7.31 of Linux 5.2: major, minor, max_readahead 128 KiB, flags up to EXPLICIT_INVAL_DATA.
LINUX_5_2 = octets(
    "38000000"
    + HEADER
    + """
    07000000 1f000000 00000200 fbfff703"""
)
# 7.45 of Linux 6.18: INIT_EXT and all of flags2, then 11 words for what is to come.
LINUX_6_18 = octets(
    "68000000"
    + HEADER
    + """
    07000000 2d000000 00000200 fbffff7f
    ffff0300"""
    + 11 * " 00000000"
)


def reply_of(fs: UnionFs, request: bytes, terms: Terms) -> tuple[Session, str]:
    session = Session(fs, terms)
    return session, session.init(request).hex(" ", 4)


def test_linux_5_2(fs: UnionFs) -> None:
    """No flags2, no passthrough, no rings; the reply has the size it has always had."""
    session, reply = reply_of(fs, LINUX_5_2, Terms(backings=NoBackings(), uring=True))
    assert reply == (
        "50000000 00000000 02000000 00000000 "  # 80 bytes, no error, unique 2
        "07000000 1f000000 00000200 6928f401 "  # 7.31, max_readahead, flags
        "40003000 00001000 01000000 00010000 "  # background 64 and 48, 1 MiB, 1 ns, 256 pages
        "00000000 00000000 00000000 00000000 "  # flags2, max_stack_depth, request_timeout
        "00000000 00000000 00000000 00000000"
    )
    assert session.flags & Init.POSIX_ACL
    assert not session.flags & (Init.HANDLE_KILLPRIV_V2 | Init.SETXATTR_EXT | Init.INIT_EXT)


def test_linux_6_18(fs: UnionFs) -> None:
    terms = Terms(backings=NoBackings(), uring=True, stack_depth=2)
    session, reply = reply_of(fs, LINUX_6_18, terms)
    assert reply == (
        "50000000 00000000 02000000 00000000 "
        "07000000 2d000000 00000200 6928f471 "
        "40003000 00001000 01000000 00010000 "
        "60030000 02000000 00000000 00000000 "  # PASSTHROUGH, ALLOW_IDMAP, OVER_IO_URING; depth 2
        "00000000 00000000 00000000 00000000"
    )
    assert session.flags & Init.HANDLE_KILLPRIV_V2


def test_what_a_mount_may_ask_for(fs: UnionFs) -> None:
    """Without ACLs, with layers that change, with neither passthrough nor rings."""
    session, reply = reply_of(fs, LINUX_6_18, Terms(acl=False, timeout=1.0))
    assert "00000000 00000000 00000000" in reply
    assert session.flags & Init.AUTO_INVAL_DATA
    assert not session.flags & (
        Init.POSIX_ACL | Init.CACHE_SYMLINKS | Init.PASSTHROUGH | Init.OVER_IO_URING
    )


def test_a_kernel_of_the_future(fs: UnionFs) -> None:
    """It is answered with the minor we know, and takes that."""
    request = LINUX_6_18[:44] + (99).to_bytes(4, "little") + LINUX_6_18[48:]
    session, reply = reply_of(fs, request, Terms())
    assert session.minor == 45
    assert reply.split()[5] == "2d000000"


@pytest.mark.parametrize("opcode", [0, 7, 41, 54, 63, 64, 4096, (1 << 32) - 1])
def test_requests_nobody_knows(fs: UnionFs, opcode: int) -> None:
    session, _ = reply_of(fs, LINUX_6_18, Terms())
    buffer = bytearray(4096)
    request = Request(buffer, 0, buffer, bytearray(4096), 16)
    request.opcode = opcode
    with pytest.raises(OSError) as caught:
        reply_to(session, request)
    assert caught.value.errno == errno.ENOSYS
    assert session.argument_size(opcode) == 0


@pytest.mark.parametrize("opcode", [*Opcode])
def test_requests_of_zeros(fs: UnionFs, opcode: Opcode) -> None:
    """No kernel sends them; an errno is all they may lead to."""
    session, _ = reply_of(fs, LINUX_6_18, Terms())
    buffer = bytearray(4096)
    request = Request(buffer, 0, buffer, bytearray(1 << 16), 16)
    request.opcode, request.start, request.end, request.wait = opcode, 80, 80, True
    code = 0
    try:
        reply_to(session, request)
    except OSError as error:
        code = error.errno or 0
    assert 0 <= code < FIRST_INTERNAL
