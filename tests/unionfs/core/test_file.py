"""Open files: flags, and what a handle sees when its file is copied up."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.unions import core, errno_of, nodeid, state
from unionfs.core import file as file_module
from unionfs.core.file import read_into
from unionfs.core.layer import Fd
from unionfs.credentials import Credentials
from unionfs.types import SetAttr


def test_a_handle_of_before_the_copy_up_sees_what_was_written(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "lower"})
    with layers.union() as tree:
        reader = tree.open(b"file", os.O_RDONLY, 0)
        tree.write(b"file", 0, b"UPPER")
        assert tree.pread(reader, 9, 0) == b"UPPER"
        assert tree.fstat(reader).size == 5
        tree.unlink(b"file")
        assert tree.pread(reader, 9, 0) == b"UPPER"


def test_truncating_at_open_copies_no_data(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "x" * 100})
    with layers.union() as tree:
        handle = tree.open(b"file", os.O_WRONLY | os.O_TRUNC, 0)
        assert tree.fstat(handle).size == 0
        assert not core(tree).slow_open(nodeid(tree, b"file"), os.O_WRONLY | os.O_TRUNC)
    assert layers.look()[b"file"].content == b""


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EOPNOTSUPP], ids=["cold", "tmpfs"])
def test_a_short_wait_for_a_quick_disk_is_no_reason_for_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    now = 0
    took = 100_000  # ns
    preadv = os.preadv

    def cold(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        nonlocal now
        if flags & os.RWF_NOWAIT:
            raise OSError(code, os.strerror(code))
        now += took
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", cold)
    monkeypatch.setattr(file_module, "perf_counter_ns", lambda: now)
    (tmp_path / "data").write_bytes(b"data")
    large = bytearray(1 << 20)
    fd = Fd(os.open(tmp_path / "data", os.O_RDONLY))
    with Layers(tmp_path / "layers").union() as tree:
        union = state(tree)

        def read(*, wait: bool) -> int | None:
            return read_into(union, fd, bytearray(4), 0, wait=wait)

        assert read(wait=False) == 4
        assert read_into(union, fd, large, 0, wait=False) is None
        took = 10_000_000
        read(wait=True)
        while read(wait=False) is not None:
            pass
        assert now < 30 * took, "a slow disk is noticed soon"
        assert read(wait=True) == 4
        took = 100_000
        for _ in range(30):
            read(wait=True)
        assert read(wait=False) == 4


def test_files_from_the_disk_are_not_looked_for_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that may not wait fails for each of them; what comes from memory needs no stat."""
    now, took, asked = 0, 100_000, 0
    preadv = os.preadv

    def read(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        nonlocal now, asked
        asked += 1
        if flags & os.RWF_NOWAIT and took > 10_000:
            raise BlockingIOError(errno.EAGAIN, "")
        now += took
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", read)
    monkeypatch.setattr(file_module, "perf_counter_ns", lambda: now)
    (tmp_path / "data").write_bytes(b"data")
    fd = Fd(os.open(tmp_path / "data", os.O_RDONLY))

    def calls() -> int:
        before = asked
        assert read_into(union, fd, bytearray(5), 0, wait=False, enough=4) == 4
        return asked - before

    with Layers(tmp_path / "layers").union() as tree:
        union = state(tree)
        assert [calls() for _ in range(3)] == [2, 1, 1]
        took = 2_000
        monkeypatch.setattr(os, "fstat", None)
        assert [calls() for _ in range(3)] == [1, 1, 1]
        took = 100_000
        assert [calls() for _ in range(3)] == [2, 1, 1]
        monkeypatch.undo()


def test_what_waits_for_a_disk_is_slow(tmp_path: Path) -> None:
    with Layers(tmp_path, {"file": "x" * 1_000_000, "empty": ""}).union() as tree:
        fs, file, empty = tree.fs, nodeid(tree, b"file"), nodeid(tree, b"empty")
        assert fs.slow_open(file, os.O_RDWR)
        assert not fs.slow_open(file, os.O_RDONLY)
        assert not fs.slow_open(empty, os.O_RDWR)
        assert fs.slow_setattr(file, SetAttr(mode=0o600))
        assert not fs.slow_setattr(file, SetAttr(size=0))
        tree.chmod(b"file", 0o600)
        assert not fs.slow_open(file, os.O_RDWR)
        assert not fs.slow_setattr(file, SetAttr(mode=0o600))


def test_a_handle_that_reads_cannot_write(tmp_path: Path) -> None:
    with Layers(tmp_path, {"file": "x"}).union() as tree:
        fh = tree.fs.open(nodeid(tree, b"file"), os.O_RDONLY)
        assert errno_of(lambda: tree.fs.write(fh, 0, b"y")) == errno.EBADF
        tree.fs.release(fh)
        assert errno_of(lambda: tree.fs.read(fh, 0, 1)) == errno.EBADF


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    os.mkfifo(layers.lowers[0] / "fifo")
    with layers.union() as tree:
        held = nodeid(tree, b"fifo")
        assert errno_of(lambda: tree.fs.open(held, os.O_RDONLY)) == errno.ENXIO


def test_reading_without_waiting(tmp_path: Path) -> None:
    with Layers(tmp_path, {"file": "0123456789"}).union() as tree:
        fh = tree.fs.open(nodeid(tree, b"file"), os.O_RDONLY)
        tree.fs.read(fh, 0, 10)
        quick = tree.fs.read_nowait(fh, 4, 100)
        assert quick is None or bytes(quick) == b"456789"
        tree.fs.release(fh)


@pytest.mark.parametrize(("kill_suid", "left"), [(False, 0o6755), (True, 0o755)])
def test_writing_takes_suid_where_asked(tmp_path: Path, kill_suid: bool, left: int) -> None:
    layers = Layers(tmp_path, {"file": "x"})
    (layers.lowers[0] / "file").chmod(0o6755)
    with layers.union() as tree:
        fh = tree.fs.open(nodeid(tree, b"file"), os.O_WRONLY)
        if kill_suid:
            assert tree.fs.has_suid(fh)
            assert tree.fs.drop_suid(fh, Credentials(0, 0))
        tree.fs.write(fh, 0, b"y")
        tree.fs.release(fh)
        assert stat.S_IMODE(tree.lstat(b"file").mode) == left


def test_a_filesystem_that_cannot_say_whether_it_would_wait_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tmpfs, on which each such call fails."""
    asked = 0
    preadv = os.preadv

    def read(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        nonlocal asked
        if flags & os.RWF_NOWAIT:
            asked += 1
            raise OSError(errno.EOPNOTSUPP, "")
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", read)
    names = [f"file{number}" for number in range(5)]
    with Layers(tmp_path, {name: name for name in names}).union() as tree:
        for name in names:
            node = nodeid(tree, name.encode())
            opened = core(tree).open_small(node, os.O_RDONLY, False)
            assert opened is not None
            assert opened[2] == bytearray(name.encode())
            core(tree).release(opened[0])
    assert asked == 1
