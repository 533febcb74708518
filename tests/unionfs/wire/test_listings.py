"""The kernel must not keep a listing that was out of date before it had it whole."""

from __future__ import annotations

import socket
from functools import partial

import pytest

from tests.unionfs.wire.kernel import Given, Kernel
from unionfs.core.union import UnionFs
from unionfs.transports.dev_fuse import Connection
from unionfs.types import ROOT_NODEID, NodeId
from unionfs.wire import abi, listings
from unionfs.wire.abi import Opcode
from unionfs.wire.listings import Listings
from unionfs.wire.session import Terms

_D = NodeId(7)
_END = 1000  # a cookie after the last name
_LISTS = (Opcode.READDIR, Opcode.READDIRPLUS)
_CHANGES = {
    Opcode.UNLINK: (b"", b"name1\0"),
    Opcode.RMDIR: (b"", b"sub\0"),
    Opcode.SYMLINK: (b"", b"link\0target\0"),
    Opcode.MKDIR: (abi.MKDIR_IN.pack(0o755, 0), b"made\0"),
    Opcode.MKNOD: (abi.MKNOD_IN.pack(0o100644, 0, 0, 0), b"made\0"),
    Opcode.CREATE: (abi.CREATE_IN.pack(0, 0o644, 0, 0), b"made\0"),
}


def _list(kernel: Kernel, opcode: Opcode, d: NodeId, offset: int, pid: int) -> bytes:
    args = abi.READ_IN.pack(0, offset, 65536, 0, 0, 0, 0)
    return kernel.ask(opcode, d, args, pid=pid)


def _with_cache(fs: UnionFs) -> tuple[Kernel, Given, NodeId]:
    cache = Given()
    kernel = Kernel(fs, Terms(cache=cache))
    d = kernel.nodeid(ROOT_NODEID, b"d")
    kernel.ask(Opcode.MKDIR, d, abi.MKDIR_IN.pack(0o755, 0), b"sub\0")
    return kernel, cache, d


@pytest.mark.parametrize("opcode", _LISTS)
@pytest.mark.parametrize("change", _CHANGES)
def test_a_change_in_a_listing_drops_it(fs: UnionFs, opcode: Opcode, change: Opcode) -> None:
    kernel, cache, d = _with_cache(fs)
    assert _list(kernel, opcode, d, 0, pid=1)
    args, data = _CHANGES[change]
    kernel.ask(change, d, args, data, pid=2)
    assert cache.dropped == []
    assert not _list(kernel, opcode, d, _END, pid=1)
    assert cache.dropped == [d]


@pytest.mark.parametrize("opcode", [Opcode.RENAME, Opcode.RENAME2, Opcode.LINK])
def test_a_rename_and_a_link_change_the_directory_they_lead_to(fs: UnionFs, opcode: Opcode) -> None:
    kernel, cache, d = _with_cache(fs)
    assert _list(kernel, Opcode.READDIRPLUS, d, 0, pid=1)
    if opcode == Opcode.RENAME:
        kernel.ask(opcode, ROOT_NODEID, abi.RENAME_IN.pack(d), b"f\0there\0", pid=2)
    elif opcode == Opcode.RENAME2:
        kernel.ask(opcode, ROOT_NODEID, abi.RENAME2_IN.pack(d, 0, 0), b"f\0there\0", pid=2)
    else:
        f = kernel.nodeid(ROOT_NODEID, b"f")
        kernel.ask(opcode, d, abi.LINK_IN.pack(f), b"there\0", pid=2)
    assert not _list(kernel, Opcode.READDIRPLUS, d, _END, pid=1)
    assert cache.dropped == [d]


def test_listings_without_a_change_are_kept(fs: UnionFs) -> None:
    """Also of several programs, and after and before changes."""
    kernel, cache, d = _with_cache(fs)
    for _ in range(2):
        for offset in (0, _END):
            for pid in (1, 2):
                _list(kernel, Opcode.READDIRPLUS, d, offset, pid)
        kernel.ask(Opcode.MKNOD, d, abi.MKNOD_IN.pack(0o100644, 0, 0, 0), b"made\0")
        kernel.ask(Opcode.UNLINK, d, data=b"made\0")
    assert cache.dropped == []


def test_what_another_reader_may_fill_in_later_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first may have its answer, with what is gone, and not have used it yet."""
    known = Listings()
    known.begin(_D, 1)
    known.changed(_D)
    known.begin(_D, 2)
    assert known.end(_D, 2)
    monkeypatch.setattr(listings, "SUSPECT_S", -1.0)
    known.begin(_D, 1)
    known.changed(_D)
    known.begin(_D, 2)
    assert known.end(_D, 2)  # the last time
    known.begin(_D, 2)
    assert not known.end(_D, 2)


def test_an_end_without_a_beginning_drops_the_listing() -> None:
    known = Listings()
    known.begin(_D, 1)
    assert known.end(_D, 2)
    assert not known.end(_D, 1)


def test_readers_that_stop_early_are_not_remembered_for_ever() -> None:
    known = Listings()
    for number in range(10 * listings.MOST):
        known.begin(NodeId(number), 1)
    assert known.end(NodeId(0), 1)
    assert not known.end(NodeId(10 * listings.MOST - 1), 1)


def test_a_restore_in_a_listing_drops_it(fs: UnionFs) -> None:
    """It is no request: the kernel hears of it by notices."""
    cache = Given()
    theirs, ours = socket.socketpair()
    with theirs, ours:
        connection = Connection(fs, ours.fileno(), Terms(cache=cache), "off")
        kernel = Kernel(fs, connection.session.terms, session=connection.session)
        d = kernel.nodeid(ROOT_NODEID, b"d")
        tell = connection.notifier
        for notice in (partial(tell.forget_inode, d), partial(tell.forget_name, d, b"name1")):
            assert _list(kernel, Opcode.READDIRPLUS, d, 0, pid=1)
            notice()
            assert _list(kernel, Opcode.READDIRPLUS, d, 0, pid=2)
            assert not _list(kernel, Opcode.READDIRPLUS, d, _END, pid=2)
            assert cache.dropped == [d]
            cache.dropped.clear()
