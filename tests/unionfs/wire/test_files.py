"""Open files: what the kernel is given of them, and what has to wait."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unionfs.wire.kernel import Given, Kernel, Table
from unionfs.core.union import UnionFs
from unionfs.types import FMODE_EXEC, ROOT_NODEID, Attr, Fh, NodeId
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Defer
from unionfs.wire.session import Terms


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


def test_a_small_lower_file_is_given_with_its_first_open(fs: UnionFs) -> None:
    given = Given()
    kernel = Kernel(fs, Terms(pass_all=True, backings=Table(), cache=given))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    for _ in range(2):
        kernel.open(nodeid, os.O_RDONLY)
    assert given.files == [(nodeid, b"data")]


def test_a_file_is_given_again_only_after_it_is_forgotten_for_good(fs: UnionFs) -> None:
    """A store waits for READs of the inode, which may wait for the thread that stores."""
    given = Given()
    kernel = Kernel(fs, Terms(backings=Table(), cache=given))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    assert kernel.nodeid(ROOT_NODEID, b"f") == nodeid
    for forgotten, times in ((1, 1), (1, 2)):
        kernel.release(nodeid, kernel.open(nodeid, os.O_RDONLY)[0])
        kernel.session.forget(Opcode.FORGET, nodeid, abi.FORGET_IN.pack(forgotten), 0)
        if times == 2:
            assert kernel.nodeid(ROOT_NODEID, b"f") == nodeid
        kernel.release(nodeid, kernel.open(nodeid, os.O_RDONLY)[0])
        assert len(given.files) == times


@pytest.mark.parametrize("backings", [Table(), None], ids=["passthrough", "none"])
def test_readers_of_a_small_lower_file_share_a_handle_until_it_is_forgotten(
    fs: UnionFs, backings: Table | None
) -> None:
    kernel = Kernel(fs, Terms(backings=backings, cache=Given()))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    first = kernel.open(nodeid, os.O_RDONLY)
    assert kernel.open(nodeid, os.O_RDONLY) == first
    for _ in range(2):
        kernel.release(nodeid, first[0])
    assert kernel.open(nodeid, os.O_RDONLY) == first
    assert fs.counters()["handles"] == 1
    kernel.release(nodeid, first[0])
    kernel.session.forget(Opcode.FORGET, nodeid, abi.FORGET_IN.pack(1), 0)
    assert fs.counters()["handles"] == 0


def test_a_shared_handle_is_not_for_a_small_file_that_was_copied_up(fs: UnionFs) -> None:
    """Neither while the lower file is still open nor when it is closed."""
    kernel = Kernel(fs, Terms(backings=Table(), cache=Given()))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    reader = kernel.open(nodeid, os.O_RDONLY)[0]
    writer = kernel.open(nodeid, os.O_WRONLY)[0]
    kernel.ask(Opcode.WRITE, nodeid, abi.WRITE_IN.pack(writer, 0, 3, 0, 0, 0, 0), data=b"new")
    later = kernel.open(nodeid, os.O_RDONLY)[0]
    assert later != reader
    read = abi.READ_IN.pack(reader, 0, 4, 0, 0, 0, 0)
    assert kernel.ask(Opcode.READ, nodeid, read) == b"newa"
    for fh in (reader, writer, later):
        kernel.release(nodeid, fh)
    fh, flags, backing_id = kernel.open(nodeid, os.O_RDONLY)
    assert fh != reader
    assert flags & abi.FOPEN_PASSTHROUGH
    assert backing_id


def test_handles_without_passthrough(fs: UnionFs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a lower file are shared and kept, whatever its size; those of a writer are not."""
    monkeypatch.setattr("unionfs.wire.modes.KEPT_SMALL", 2)
    kernel = Kernel(fs, Terms())
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    reader = kernel.open(nodeid, os.O_RDONLY)
    assert kernel.open(nodeid, os.O_RDONLY) == reader
    writer = kernel.open(nodeid, os.O_RDWR)[0]
    kernel.ask(Opcode.WRITE, nodeid, abi.WRITE_IN.pack(writer, 0, 3, 0, 0, 0, 0), data=b"new")
    later = kernel.open(nodeid, os.O_RDONLY)
    assert later[0] not in (reader[0], writer)
    for fh in (reader[0], reader[0], later[0]):
        read = abi.READ_IN.pack(fh, 0, 3, 0, 0, 0, 0)
        assert kernel.ask(Opcode.READ, nodeid, read) == b"new"
        kernel.release(nodeid, fh)
    kernel.release(nodeid, writer)
    assert kernel.open(nodeid, os.O_RDONLY)[0] != reader[0]
    assert fs.counters()["handles"] == 1, "nothing is kept open of what is in the upper"
    for name in (b"f", b"big1", b"big2", b"f"):
        nodeid = kernel.nodeid(ROOT_NODEID, name)
        kernel.release(nodeid, kernel.open(nodeid, os.O_RDONLY)[0])
    assert fs.counters()["handles"] == 3


@pytest.mark.parametrize(
    ("head", "flags", "given"),
    [
        (b"text", os.O_RDONLY, True),
        (b"text", os.O_RDONLY | FMODE_EXEC, True),
        (b"\x7fELF", os.O_RDONLY, True),
        (b"\x7fELF", os.O_RDONLY | FMODE_EXEC, False),
    ],
)
def test_a_file_of_one_read_is_given_unless_it_is_passed_through(
    tmp_path: Path, fs: UnionFs, head: bytes, flags: int, given: bool
) -> None:
    cache = Given()
    kernel = Kernel(fs, Terms(backings=Table(), cache=cache))
    content = head.ljust(100_000, b"x")
    (tmp_path / "lower/big").write_bytes(content)
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    backing_ids = [kernel.open(nodeid, flags)[2] for _ in range(2)]
    assert cache.files == ([(nodeid, content)] if given else [])
    assert [backing_id == 0 for backing_id in backing_ids] == [given] * 2


def test_a_file_truncated_while_it_was_read_is_not_given(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before the truncation is answered nor after."""
    cache = Given()
    kernel = Kernel(fs, Terms(cache=cache))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    setattr_ = fs.setattr

    def beside_a_reader(*args: Any) -> Attr:
        kernel.open(nodeid, os.O_RDONLY)
        return setattr_(*args)

    monkeypatch.setattr(fs, "setattr", beside_a_reader)
    to_one_byte = abi.SETATTR_IN.pack(abi.FATTR_SIZE, 0, 1, *[0] * 10)
    kernel.ask(Opcode.SETATTR, nodeid, to_one_byte)
    kernel.open(nodeid, os.O_RDONLY)
    assert cache.files == []


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


@pytest.mark.parametrize(("name", "method"), [(b"f", "open_small"), (b"big", "first_content")])
def test_a_file_changed_while_it_was_read_is_not_given(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch, name: bytes, method: str
) -> None:
    cache = Given()
    kernel = Kernel(fs, Terms(cache=cache))
    nodeid = kernel.nodeid(ROOT_NODEID, name)
    read = getattr(fs, method)

    def while_another_opens_it(*args: object) -> object:
        content = read(*args)
        assert content
        kernel.open(nodeid, os.O_RDWR)
        return content

    monkeypatch.setattr(fs, method, while_another_opens_it)
    kernel.open(nodeid, os.O_RDONLY)
    assert cache.files == []


@pytest.mark.parametrize("closed", [False, True], ids=["open still", "closed again"])
def test_a_small_file_copied_up_while_it_was_opened_is_passed_through(
    fs: UnionFs, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    table = Table()
    kernel = Kernel(fs, Terms(backings=table, cache=Given()))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    open_small = fs.open_small
    writers: list[tuple[int, int, int]] = []

    def while_another_opens_it(
        nodeid: NodeId, flags: int, wait: bool
    ) -> tuple[Fh, int, bytearray | None] | None:
        content = open_small(nodeid, flags, wait)
        writers.append(kernel.open(nodeid, os.O_RDWR))
        if closed:
            kernel.ask(Opcode.RELEASE, nodeid, abi.RELEASE_IN.pack(writers[0][0], os.O_RDWR, 0, 0))
        return content

    monkeypatch.setattr(fs, "open_small", while_another_opens_it)
    reader, flags, backing_id = kernel.open(nodeid, os.O_RDONLY)
    assert flags & abi.FOPEN_PASSTHROUGH
    assert list(table.open) == [backing_id]
    if not closed:
        assert backing_id == writers[0][2]
        kernel.ask(Opcode.RELEASE, nodeid, abi.RELEASE_IN.pack(writers[0][0], os.O_RDWR, 0, 0))
    kernel.release(nodeid, reader)
    assert not table.open


def test_only_small_files_of_a_lower_that_were_never_changed_are_opened_as_such(
    fs: UnionFs,
) -> None:
    kernel = Kernel(fs, Terms(cache=Given()))
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    opened = fs.open_small(nodeid, os.O_RDONLY, True)
    assert opened is not None
    assert opened[1:] == (0, bytearray(b"data"))
    fs.release(opened[0])
    for other in (ROOT_NODEID, NodeId(1 << 40), kernel.nodeid(ROOT_NODEID, b"big")):
        assert fs.open_small(other, os.O_RDONLY, True) is None
    kernel.ask(
        Opcode.RELEASE, nodeid, abi.RELEASE_IN.pack(kernel.open(nodeid, os.O_RDWR)[0], 2, 0, 0)
    )
    assert fs.open_small(nodeid, os.O_RDONLY, True) is None


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


def test_attributes_of_a_file_that_can_be_mapped_are_forgotten_but_not_at_its_creation(
    fs: UnionFs,
) -> None:
    given = Given()
    kernel = Kernel(fs, Terms(backings=Table(), cache=given))
    create = abi.CREATE_IN.pack(os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o100600, 0, 0)
    body = kernel.ask(Opcode.CREATE, ROOT_NODEID, create, b"new\0")
    (nodeid,) = abi.ENTRY_HEAD.unpack_from(body)[:1]
    _, _, attr_valid, _, attr_valid_ns = abi.ENTRY_VALID.unpack_from(body, 8)
    assert (attr_valid, attr_valid_ns) == (0, 0)
    assert given.forgotten == []
    kernel.open(nodeid, os.O_RDWR)
    assert given.forgotten == [nodeid]
