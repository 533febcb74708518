"""How the kernel has files open: by passthrough or not, and what a change waits for."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from tests.unionfs.wire.kernel import Given, Kernel, Table
from unionfs.core.union import UnionFs
from unionfs.loader import StillRunning
from unionfs.types import FMODE_EXEC, ROOT_NODEID, Fh, NodeId
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Defer
from unionfs.wire.session import Terms

PASSTHROUGH = abi.FOPEN_PASSTHROUGH | abi.FOPEN_NOFLUSH
CACHED = abi.FOPEN_KEEP_CACHE | abi.FOPEN_NOFLUSH
EXECUTE = os.O_RDONLY | FMODE_EXEC
TO_FIVE_BYTES = abi.SETATTR_IN.pack(abi.FATTR_SIZE, 0, 5, *[0] * 10)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def kernel(fs: UnionFs, table: Table) -> Kernel:
    return Kernel(fs, Terms(backings=table))


@pytest.fixture
def program(tmp_path: Path, kernel: Kernel) -> NodeId:
    """The nodeid of an ELF file of a lower."""
    (tmp_path / "lower/big").write_bytes(b"\x7fELF".ljust(100_000, b"x"))
    return kernel.nodeid(ROOT_NODEID, b"big")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unionfs.wire.modes.PATIENCE", 0)


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
    monkeypatch.setattr("unionfs.wire.modes.KEPT", 2)
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


def test_a_failure_of_the_moment_keeps_no_pages(fs: UnionFs) -> None:
    """The kernel was short of memory; at the next open it may not be."""

    class Exhausted(Table):
        def register(self, fd: int, *, writes: bool) -> int:
            raise OSError(errno.ENOMEM, "not now")

    kernel = Kernel(fs, Terms(pass_all=True, backings=Exhausted()))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    assert kernel.open(nodeid, os.O_RDONLY)[1:] == (0, 0)


# -- programs of a lower --


def test_a_program_is_passed_through_to_while_it_is_executed(
    program: NodeId, kernel: Kernel
) -> None:
    """Those who read it meanwhile have no choice; those who come later are told apart anew."""
    assert kernel.open(program, os.O_RDONLY)[1:] == (CACHED, 0)
    reader = kernel.open(program, os.O_RDONLY)[0]
    assert kernel.open(program, EXECUTE)[1:] == (CACHED, 0), "a reader has it open"
    for _ in range(3):
        kernel.release(program, reader)
    running, flags, backing_id = kernel.open(program, EXECUTE)
    assert flags == PASSTHROUGH
    assert kernel.open(program, os.O_RDONLY) == (running, PASSTHROUGH, backing_id)
    for _ in range(2):
        kernel.release(program, running)
    assert kernel.open(program, EXECUTE) == (running, PASSTHROUGH, backing_id)
    kernel.release(program, running)
    assert kernel.open(program, os.O_RDONLY)[1:] == (CACHED, 0)


def test_what_is_executed_and_no_program_is_cached(kernel: Kernel) -> None:
    """A script stays open, for its interpreter reads it, and may be changed."""
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    assert kernel.open(nodeid, EXECUTE)[1:] == (CACHED, 0)


def test_a_library_is_passed_through_to_while_it_is_loaded(
    program: NodeId, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unionfs.loader.is_loading", lambda pid: True)
    fh, flags, _ = kernel.open(program, os.O_RDONLY)
    assert flags == PASSTHROUGH
    kernel.release(program, fh)
    assert kernel.open(program, os.O_RDONLY)[:2] == (fh, PASSTHROUGH)


@pytest.mark.parametrize("loading", [False, True])
def test_it_is_asked_once_what_a_program_is_opened_as(
    tmp_path: Path, fs: UnionFs, monkeypatch: pytest.MonkeyPatch, loading: bool
) -> None:
    """That takes longer than the rest of the open."""
    (tmp_path / "lower/big").write_bytes(b"\x7fELF".ljust(100_000, b"x"))
    given, asked = Given(), []

    def noted(pid: int) -> bool:
        asked.append(pid)
        return loading

    monkeypatch.setattr("unionfs.loader.is_loading", noted)
    kernel = Kernel(fs, Terms(backings=Table(), cache=given))
    program = kernel.nodeid(ROOT_NODEID, b"big")
    assert bool(kernel.open(program, os.O_RDONLY)[1] & abi.FOPEN_PASSTHROUGH) is loading
    assert len(asked) == 1
    assert len(given.files) == (not loading)


def test_a_thread_that_runs_still_is_waited_for(
    program: NodeId, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First on a worker thread, and there without the lock."""
    looks = []

    def soon_asleep(pid: int) -> bool:
        looks.append(pid)
        if len(looks) < 4:
            raise StillRunning
        return True

    monkeypatch.setattr("unionfs.loader.is_loading", soon_asleep)
    with pytest.raises(Defer):
        kernel.open(program, os.O_RDONLY, wait=False)
    fh, flags, _ = kernel.open(program, os.O_RDONLY)
    assert (flags, len(looks)) == (PASSTHROUGH, 4)
    kernel.release(program, fh)
    looks.clear()
    with pytest.raises(Defer):
        kernel.open(program, os.O_RDONLY, wait=False)
    assert kernel.open(program, os.O_RDONLY)[1] == PASSTHROUGH


def test_a_writer_waits_for_the_release_of_a_program(
    program: NodeId, kernel: Kernel, tmp_path: Path
) -> None:
    """The kernel sends RELEASE some time after the close."""
    running = kernel.open(program, EXECUTE)[0]
    with pytest.raises(Defer):
        kernel.open(program, os.O_RDWR, wait=False)
    opened = []
    writer = threading.Thread(target=lambda: opened.append(kernel.open(program, os.O_RDWR)))
    writer.start()
    kernel.release(program, running)
    writer.join(20)
    assert opened[0][1] == PASSTHROUGH
    kernel.release(program, opened[0][0])
    assert (tmp_path / "upper/big").stat().st_size == 100_000


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_a_program_kept_open_is_not_written_to(
    program: NodeId, kernel: Kernel, tmp_path: Path, flags: int
) -> None:
    """Nothing is copied up, nothing truncated, and the inode stays one."""
    reader = kernel.open(program, EXECUTE)[0]
    with pytest.raises(OSError, match=os.strerror(errno.ETXTBSY)):
        kernel.open(program, flags)
    with pytest.raises(OSError, match=os.strerror(errno.ETXTBSY)):
        kernel.ask(Opcode.SETATTR, program, TO_FIVE_BYTES)
    assert not (tmp_path / "upper/big").exists()
    kernel.release(program, reader)
    kernel.release(program, kernel.open(program, flags)[0])
    assert (tmp_path / "upper/big").exists()


@pytest.mark.usefixtures("impatient")
def test_a_program_copied_up_while_it_runs_is_opened_as_before(
    program: NodeId, kernel: Kernel, tmp_path: Path
) -> None:
    """chmod copies the data too, unchanged; the kernel takes no other real file now."""
    running, _, backing_id = kernel.open(program, EXECUTE)
    kernel.ask(Opcode.SETATTR, program, abi.SETATTR_IN.pack(abi.FATTR_MODE, *[0] * 9, 0o700, 0, 0))
    assert (tmp_path / "upper/big").exists()
    for flags in (EXECUTE, os.O_RDONLY):
        assert kernel.open(program, flags) == (running, PASSTHROUGH, backing_id)
    for _ in range(3):
        kernel.release(program, running)
    assert kernel.open(program, os.O_RDONLY)[2] not in (0, backing_id), "that of the upper"


def test_no_reader_begins_while_a_writer_is_on_its_way(
    fs: UnionFs, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the pages of the union, and so does then the writer."""
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    kernel.release(nodeid, kernel.open(nodeid, os.O_RDONLY)[0])
    readers = []
    open_ = fs.open

    def beside_a_reader(nodeid: NodeId, flags: int) -> Fh:
        if flags & os.O_ACCMODE:
            readers.append(kernel.open(nodeid, os.O_RDONLY))
        return open_(nodeid, flags)

    monkeypatch.setattr(fs, "open", beside_a_reader)
    writer = kernel.open(nodeid, os.O_RDWR)
    assert [opened[1:] for opened in (*readers, writer)] == [(CACHED, 0)] * 2


# -- files that become two inodes --


@pytest.mark.usefixtures("impatient")
def test_the_old_inode_of_a_file_can_be_opened_again(fs: UnionFs, table: Table) -> None:
    """By /dev/fd/N: for reading, as long as it is open."""
    kernel = Kernel(fs, Terms(pass_all=True, backings=table))
    nodeid = kernel.nodeid(ROOT_NODEID, b"big")
    reader = kernel.open(nodeid, os.O_RDONLY)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        kernel.open(nodeid, os.O_RDWR)
    again, *how = kernel.open(nodeid, os.O_RDONLY)
    assert how == list(reader[1:])
    with pytest.raises(OSError, match=os.strerror(errno.ETXTBSY)):
        kernel.open(nodeid, os.O_RDWR)
    for fh in (reader[0], again):
        kernel.release(nodeid, fh)
    assert not table.open
