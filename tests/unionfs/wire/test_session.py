"""The protocol without a kernel: request bytes in, reply bytes out, over a real union."""

from __future__ import annotations

import errno
import gc
import os
import struct
import traceback
from pathlib import Path

import pytest

from tests.unionfs.wire.kernel import EVERYTHING, Kernel, Table, init_request
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID, NodeId
from unionfs.wire import abi
from unionfs.wire.abi import Init, Opcode
from unionfs.wire.dirs import AT_FIRST
from unionfs.wire.request import Defer
from unionfs.wire.session import MAX_WRITE, Session, Terms


def test_init_agrees_on_what_both_know(fs: UnionFs) -> None:
    """Flags not offered are not asked for, and those of flags2 come back there."""
    offered = Init.INIT_EXT | Init.PASSTHROUGH | Init.BIG_WRITES | Init.WRITEBACK_CACHE
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table(), stack_depth=2), offered)
    length, error, unique = abi.OUT_HEADER.unpack_from(kernel.reply)
    fields = abi.INIT_OUT.unpack_from(kernel.reply, 16)
    assert (length, error, unique) == (len(kernel.reply), 0, 7)
    assert fields[:2] == (7, 45)
    assert fields[3] == Init.INIT_EXT | Init.BIG_WRITES
    assert fields[6] == MAX_WRITE
    assert fields[10:12] == (Init.PASSTHROUGH >> 32, 2)


def test_init_of_an_older_kernel(fs: UnionFs) -> None:
    """7.31 has no flags2; what it leaves behind its flags is not read."""
    session = Session(fs, Terms(pass_all=True, backings=Table()))
    session.init(init_request(EVERYTHING & ~Init.INIT_EXT, minor=31))
    assert session.minor == 31
    assert not session.flags & (Init.PASSTHROUGH | Init.OVER_IO_URING)


def test_init_of_a_kernel_too_old(fs: UnionFs) -> None:
    with pytest.raises(OSError, match=r"7\.30") as caught:
        Session(fs, Terms()).init(init_request(0, minor=30))
    assert caught.value.errno == errno.EPROTO


def test_requests_leave_nothing_to_the_garbage_collector(fs: UnionFs) -> None:
    """The daemon keeps it from looking often: there may be millions of inodes."""
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table()))

    def ask_everything(name: bytes) -> None:
        d = kernel.nodeid(ROOT_NODEID, b"d")
        kernel.ask(Opcode.READDIRPLUS, d, abi.READ_IN.pack(0, 0, 4096, 0, 0, 0, 0))
        lower = kernel.nodeid(d, name)
        kernel.ask(Opcode.GETATTR, lower, abi.GETATTR_IN.pack(0, 0, 0))
        kernel.release(lower, kernel.open(lower, os.O_RDONLY)[0])
        times = abi.SETATTR_IN.pack(abi.FATTR_MTIME, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0)
        kernel.ask(Opcode.SETATTR, lower, times)
        created = kernel.ask(
            Opcode.CREATE, d, abi.CREATE_IN.pack(os.O_CREAT | os.O_RDWR, 0o644, 0, 0), b"new\0"
        )
        new = abi.ENTRY_HEAD.unpack_from(created)[0]
        kernel.release(new, abi.OPEN_OUT.unpack_from(created, abi.ENTRY_SIZE)[0])
        to_d = abi.RENAME2_IN.pack(d, 0, 0)
        kernel.ask(Opcode.RENAME2, d, to_d, b"new\0newer\0")
        kernel.ask(Opcode.SYMLINK, d, b"", b"link\0target\0")
        kernel.ask(Opcode.MKDIR, d, abi.MKDIR_IN.pack(0o755, 0), b"sub\0")
        with pytest.raises(OSError):
            kernel.ask(Opcode.RMDIR, d, b"", b"none\0")
        kernel.ask(Opcode.RMDIR, d, b"", b"sub\0")
        for gone in (b"newer", b"link", name):
            kernel.ask(Opcode.UNLINK, d, b"", gone + b"\0")
        for nodeid in (new, lower, d):
            fs.forget(nodeid, 1)

    ask_everything(b"name0")
    gc.collect()
    gc.disable()
    try:
        ask_everything(b"name1")
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_unknown_requests_are_not_asked_again(kernel: Kernel) -> None:
    for opcode in (Opcode.ACCESS, Opcode.OPENDIR, Opcode.FLUSH):
        with pytest.raises(OSError) as caught:
            kernel.ask(opcode, ROOT_NODEID)
        assert caught.value.errno == errno.ENOSYS


def test_forgets_free_inodes(kernel: Kernel, fs: UnionFs) -> None:
    nodes = [kernel.nodeid(ROOT_NODEID, name) for name in (b"f", b"d", b"d")]
    single = abi.FORGET_IN.pack(1)
    kernel.session.forget(Opcode.FORGET, nodes[0], single, 0)
    batch = abi.BATCH_FORGET_IN.pack(1, 0) + abi.FORGET_ONE.pack(nodes[1], 2)
    kernel.session.forget(Opcode.BATCH_FORGET, NodeId(0), batch, 0)
    assert fs.counters()["inodes"] == 1


def test_what_is_raised_for_each_request_keeps_no_frames(fs: UnionFs) -> None:
    """An exception raised a second time would hold all that raised it before, for good."""
    kernel = Kernel(fs, Terms(timeout=0))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    for ask in (
        lambda: kernel.open(nodeid, os.O_RDWR, wait=False),
        lambda: kernel.ask(Opcode.LOOKUP, ROOT_NODEID, b"", b"absent\0"),
    ):
        depths = []
        for _ in range(3):
            with pytest.raises((Defer, OSError)) as caught:
                ask()
            depths.append(len(list(traceback.walk_tb(caught.value.__traceback__))))
        assert len(set(depths)) == 1


@pytest.mark.parametrize(
    ("opcode", "wanted"),
    [(Opcode.READDIR, False), (Opcode.READDIRPLUS, False), (Opcode.READDIRPLUS, True)],
    ids=["names", "first", "with attributes"],
)
def test_a_listing_in_small_pieces_is_whole(
    kernel: Kernel, fs: UnionFs, opcode: Opcode, wanted: bool
) -> None:
    """Each reply keeps to its size; cookies lead on; . and .. carry no inode.

    All files carry theirs once somebody looked one up that was listed without.
    """
    nodeid = kernel.nodeid(ROOT_NODEID, b"d")
    if wanted:
        body = kernel.ask(opcode, nodeid, abi.READ_IN.pack(0, 0, 600, 0, 0, 0, 0))
        there = [b"name%d" % number for number in range(50)]
        kernel.lookup(nodeid, next(name for name in there if name + b"\0" in body))
    skip = abi.ENTRY_SIZE if opcode is Opcode.READDIRPLUS else 0
    names: list[bytes] = []
    counted: list[int] = []
    offset = 0
    while body := kernel.ask(opcode, nodeid, abi.READ_IN.pack(0, offset, 600, 0, 0, 0, 0)):
        assert len(body) <= 600
        at = 0
        while at < len(body):
            if skip:
                counted.append(struct.unpack_from("=Q", body, at)[0])
            at += skip
            _, offset, length, _ = abi.DIRENT.unpack_from(body, at)
            names.append(body[at + 24 : at + 24 + length])
            at += 24 + length + 7 & ~7
    assert names[:2] == [b".", b".."]
    assert sorted(names[2:]) == sorted(b"name%d" % number for number in range(50))
    if skip:
        assert counted[:2] == [0, 0]
        assert counted[2:].count(0) == (not wanted)
        assert fs.counters()["inodes"] == (52 if wanted else 51)
        # An entry that did not fit into a reply was not counted.
        for held in filter(None, counted[2:]):
            fs.forget(NodeId(held), 1)
        assert fs.counters()["inodes"] == (3 if wanted else 2)


def test_a_first_listing_has_few_attributes_until_somebody_wants_them(
    tmp_path: Path, fs: UnionFs, kernel: Kernel
) -> None:
    """An entry with attributes takes 160 bytes and more, and a stat(2)."""
    most = AT_FIRST // 160 + 2
    for number in range(2 * most):
        (tmp_path / f"lower/d/more{number}").touch()

    def listed() -> list[tuple[int, bytes]]:
        found, offset = [], 0
        while body := kernel.ask(
            Opcode.READDIRPLUS, folder, abi.READ_IN.pack(0, offset, 32 << 10, 0, 0, 0, 0)
        ):
            at = 0
            while at < len(body):
                (nodeid,) = struct.unpack_from("=Q", body, at)
                at += abi.ENTRY_SIZE
                _, offset, length, _ = abi.DIRENT.unpack_from(body, at)
                found.append((nodeid, body[at + 24 : at + 24 + length]))
                at += 24 + length + 7 & ~7
        return found[2:]

    folder = kernel.nodeid(ROOT_NODEID, b"d")
    first = listed()
    there = {os.fsencode(entry.name) for entry in (tmp_path / "lower/d").iterdir()}
    assert len(first) == len(there)
    assert {name for _, name in first} == there
    assert 0 < sum(nodeid != 0 for nodeid, _ in first) <= most
    kernel.lookup(folder, first[-1][1])
    assert all(nodeid for nodeid, _ in listed())
