"""Open files: passthrough, handles that are shared and kept, and writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.unionfs.wire.kernel import Given, Kernel, Table
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID, Fh, NodeId
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Defer
from unionfs.wire.session import Terms


def test_every_handle_of_an_inode_has_the_same_backing(fs: UnionFs) -> None:
    """Registered by the first open, given up by the last release."""
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    kernel.release(nodeid, kernel.open(nodeid, os.O_RDWR)[0])
    first, flags, backing_id = kernel.open(nodeid, os.O_RDONLY)
    second = kernel.open(nodeid, os.O_RDONLY)
    assert flags == abi.FOPEN_PASSTHROUGH | abi.FOPEN_NOFLUSH
    assert second[2] == backing_id
    kernel.release(nodeid, first)
    assert list(table.open) == [backing_id]
    kernel.release(nodeid, second[0])
    assert not table.open


def test_a_writer_of_a_file_read_by_passthrough_gets_a_new_inode(fs: UnionFs) -> None:
    """ESTALE makes the kernel look the name up again; readers keep the old inode."""
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table()))
    old = kernel.lookup(ROOT_NODEID, b"big")
    reader, _, backing_id = kernel.open(NodeId(old[0]), os.O_RDONLY)
    with pytest.raises(OSError) as caught:
        kernel.open(NodeId(old[0]), os.O_RDWR)
    assert caught.value.errno == errno.ESTALE
    new = kernel.lookup(ROOT_NODEID, b"big")
    assert new[0] != old[0]
    assert new[6] == old[6], "st_ino"
    assert kernel.open(NodeId(new[0]), os.O_RDWR)[2] != backing_id
    kernel.release(NodeId(old[0]), reader)


def test_readers_of_a_lower_file_share_a_handle_that_outlives_them(fs: UnionFs) -> None:
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    first = kernel.open(nodeid, os.O_RDONLY)
    assert kernel.open(nodeid, os.O_RDONLY) == first
    for _ in range(2):
        kernel.release(nodeid, first[0])
    assert list(table.open) == [first[2]]
    assert kernel.open(nodeid, os.O_RDONLY) == first
    read = abi.READ_IN.pack(first[0], 99_997, 4096, 0, 0, 0, 0)
    assert kernel.ask(Opcode.READ, nodeid, read) == bytes(3)


def test_a_kept_handle_gives_way_to_a_writer(fs: UnionFs, tmp_path: Path) -> None:
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    reader = kernel.open(nodeid, os.O_RDONLY)
    kernel.release(nodeid, reader[0])
    writer = kernel.open(nodeid, os.O_RDWR)
    assert list(table.open) == [writer[2]]
    kernel.release(nodeid, writer[0])
    again = kernel.open(nodeid, os.O_RDONLY)
    assert os.fstat(table.open[again[2]]).st_ino != (tmp_path / "lower/big").stat().st_ino
    kernel.release(nodeid, again[0])
    assert not table.open, "a file of the upper is not kept open: it may be deleted"


def test_a_kept_handle_is_not_for_an_inode_met_anew(fs: UnionFs) -> None:
    """Forgotten, copied up under another handle, and opened by the same nodeid."""
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    reader = kernel.open(nodeid, os.O_RDONLY)
    kernel.release(nodeid, reader[0])
    kernel.session.forget(Opcode.FORGET, nodeid, abi.FORGET_IN.pack(1), 0)
    assert kernel.nodeid(ROOT_NODEID, b"big") == nodeid
    writer = kernel.open(nodeid, os.O_RDWR)
    kernel.ask(Opcode.WRITE, nodeid, abi.WRITE_IN.pack(writer[0], 0, 3, 0, 0, 0, 0), data=b"new")
    kernel.release(nodeid, writer[0])
    again = kernel.open(nodeid, os.O_RDONLY)
    assert os.pread(table.open[again[2]], 3, 0) == b"new"
    kernel.release(nodeid, again[0])


def test_few_files_are_kept_open(fs: UnionFs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unionfs.wire.files._KEPT", 2)
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    opened = []
    for name in (b"big", b"big1", b"big2", b"big"):
        nodeid = kernel.nodeid(ROOT_NODEID, name)
        opened.append(kernel.open(nodeid, os.O_RDONLY))
        kernel.release(nodeid, opened[-1][0])
    assert len(table.open) == 2
    assert opened[3][0] != opened[0][0]
    assert fs.counters()["handles"] == 2


def test_a_file_the_kernel_cannot_take_goes_through_us(fs: UnionFs) -> None:
    class Refusing(Table):
        def register(self, fd: int, *, writes: bool) -> int:
            raise OSError(errno.EOPNOTSUPP, "not this one")

    kernel = Kernel(fs, Terms(pass_all=True, backings=Refusing()))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    fh, flags, backing_id = kernel.open(nodeid, os.O_RDONLY)
    assert (flags, backing_id) == (abi.FOPEN_KEEP_CACHE | abi.FOPEN_NOFLUSH, 0)
    read = abi.READ_IN.pack(fh, 99_997, 4096, 0, 0, 0, 0)
    assert kernel.ask(Opcode.READ, nodeid, read) == bytes(3)


def test_a_small_lower_file_is_kept_by_the_kernel(fs: UnionFs) -> None:
    """Also by who writes to it meanwhile; only then is the upper passed through."""
    table = Table()
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    kept = abi.FOPEN_KEEP_CACHE | abi.FOPEN_NOFLUSH
    reader, *opened = kernel.open(nodeid, os.O_RDONLY)
    assert opened == [kept, 0]
    writer, *opened = kernel.open(nodeid, os.O_RDWR)
    assert opened == [kept, 0]
    kernel.release(nodeid, reader)
    kernel.release(nodeid, writer)
    assert not table.open
    assert kernel.open(nodeid, os.O_RDONLY)[1] & abi.FOPEN_PASSTHROUGH


def test_a_failure_of_the_moment_keeps_no_pages(fs: UnionFs) -> None:
    """The kernel was short of memory; at the next open it may not be."""

    class Exhausted(Table):
        def register(self, fd: int, *, writes: bool) -> int:
            raise OSError(errno.ENOMEM, "not now")

    kernel = Kernel(fs, Terms(pass_all=True, backings=Exhausted()))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    assert kernel.open(nodeid, os.O_RDONLY)[1:] == (0, 0)


def test_a_small_lower_file_is_given_with_its_first_open(fs: UnionFs) -> None:
    given = Given()
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table(), cache=given))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    for _ in range(2):
        kernel.open(nodeid, os.O_RDONLY)
    assert given.files == [(nodeid, b"data")]


@pytest.mark.parametrize(("head", "given"), [(b"text", True), (b"\x7fELF", False)])
def test_a_file_of_one_read_is_given_unless_it_is_passed_through(
    tmp_path: Path, fs: UnionFs, head: bytes, given: bool
) -> None:
    cache = Given()
    kernel = Kernel(fs, Terms(backings=Table(), cache=cache))
    content = head.ljust(100_000, b"x")
    (tmp_path / "lower/big").write_bytes(content)
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    backing_ids = [kernel.open(nodeid, os.O_RDONLY)[2] for _ in range(2)]
    assert cache.files == ([(nodeid, content)] if given else [])
    assert [backing_id == 0 for backing_id in backing_ids] == [given] * 2


def waits_for_a_disk(*_: object) -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_file_is_not_given_after_its_first_open_is_answered(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A READ may be under way then, and the store would wait for it."""
    cache = Given()
    kernel = Kernel(fs, Terms(backings=Table(), cache=cache))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", waits_for_a_disk)
        kernel.open(nodeid, os.O_RDONLY, wait=False)
    kernel.open(nodeid, os.O_RDONLY, wait=False)
    assert cache.files == []


def test_a_larger_file_is_given_by_a_thread_that_may_wait(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Given()
    kernel = Kernel(fs, Terms(backings=Table(), cache=cache))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", waits_for_a_disk)
        with pytest.raises(Defer):
            kernel.open(nodeid, os.O_RDONLY, wait=False)
    assert fs.counters()["handles"] == 0
    kernel.open(nodeid, os.O_RDONLY)
    assert cache.files == [(nodeid, bytes(100_000))]


def test_a_file_changed_while_it_was_read_is_not_given(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Given()
    kernel = Kernel(fs, Terms(cache=cache))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    first_content = fs.first_content

    def while_another_opens_it(fh: Fh, limit: int, wait: bool) -> bytearray | None:
        content = first_content(fh, limit, wait)
        kernel.open(nodeid, os.O_RDWR)
        return content

    monkeypatch.setattr(fs, "first_content", while_another_opens_it)
    kernel.open(nodeid, os.O_RDONLY)
    assert cache.files == []


def test_what_is_large_empty_or_in_the_upper_is_not_given(fs: UnionFs) -> None:
    given = Given()
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table(), cache=given))
    kernel.open(kernel.nodeid(ROOT_NODEID, b"big"), os.O_RDONLY)
    in_upper = kernel.nodeid(kernel.nodeid(ROOT_NODEID, b"d"), b"name0")
    kernel.open(in_upper, os.O_RDONLY)
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    writer = kernel.open(nodeid, os.O_RDWR)[0]
    kernel.ask(Opcode.WRITE, nodeid, abi.WRITE_IN.pack(writer, 0, 3, 0, 0, 0, 0), data=b"new")
    kernel.release(nodeid, writer)
    kernel.open(nodeid, os.O_RDONLY)
    assert given.files == []


def test_a_copy_up_is_deferred_before_anything_is_done(kernel: Kernel, tmp_path: Path) -> None:
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    with pytest.raises(Defer):
        kernel.open(nodeid, os.O_RDWR, wait=False)
    assert not (tmp_path / "upper/f").exists()
    kernel.open(nodeid, os.O_RDWR, wait=True)
    assert (tmp_path / "upper/f").read_bytes() == b"data"
