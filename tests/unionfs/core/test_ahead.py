"""Reading ahead of a program that walks a tree: what is read, how far, and that it ends."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from unionfs import UnionConfig, UnionFs, open_union
from unionfs.core import ahead, lookup
from unionfs.core.layer import Fd, FdCache, Layer, RealDir, open_dir
from unionfs.core.whiteout import DT_DIR
from unionfs.syscalls.getdents import entries
from unionfs.types import ROOT_NODEID

DIRS = 200


class Reader:
    """Starts the thread, and notes what it reads."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.read: list[str] = []

    def start(self, work: Callable[[], None]) -> None:
        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    reader = Reader()
    read = ahead.read_folders

    def noted(fd: Fd) -> list[bytes]:
        reader.read.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        return read(fd)

    monkeypatch.setattr(ahead, "COLD_NS", 0)
    monkeypatch.setattr(ahead, "BEGIN_NS", 0)
    monkeypatch.setattr(ahead, "IDLE_S", 0.2)
    monkeypatch.setattr(ahead, "read_folders", noted)
    return reader


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    lower = tmp_path / "lower"
    for number in range(DIRS):
        (lower / f"d{number}/below").mkdir(parents=True)
        (lower / f"d{number}/f{number}").write_text("x")
    (lower / "link").symlink_to("/")
    os.mkfifo(lower / "fifo")
    return lower


@pytest.fixture
def union(lower: Path, reader: Reader) -> Iterator[UnionFs]:
    union = open_union(UnionConfig(lowers=(os.fsencode(lower),)), background=reader.start)
    yield union
    union.close()
    # Each has said that it is done, and is about to end.
    wait(lambda: not any(thread.is_alive() for thread in reader.threads))


def wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < end, "not within 10 s"
        time.sleep(0.001)


def test_reading_stays_within_a_distance_of_the_program(union: UnionFs, reader: Reader) -> None:
    (*_,) = union.listdir(ROOT_NODEID, 0)
    wait(lambda: len(reader.read) == ahead.MOST + 1)  # the root too
    wait(lambda: not reader.threads[0].is_alive())  # it had nothing to do for a while
    assert len(reader.read) == ahead.MOST + 1


def test_a_program_that_walks_on_makes_room_for_more(
    union: UnionFs, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name.decode() for _, name, *_ in union.listdir(ROOT_NODEID, 0)]
    monkeypatch.setattr(ahead, "COLD_NS", 1 << 60)
    for name in names:
        found = union.lookup(ROOT_NODEID, name.encode()) if name.startswith("d") else None
        if found is not None:
            wait(lambda name=name: name in reader.read)  # type: ignore[misc]
            for _, below, *_ in union.listdir(found.nodeid, 0):
                if below == b"below":
                    below_it = union.lookup(found.nodeid, below)
                    assert below_it is not None
                    (*_,) = union.listdir(below_it.nodeid, 0)
    assert reader.read.count("d7") == 1


@pytest.mark.parametrize("depth", [1, 2, 64])
def test_a_merged_directory_is_cold_if_each_of_its_directories_is(
    lower: Path, depth: int, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loaded machine delays each of many quick system calls a little."""
    monkeypatch.setattr(ahead, "COLD_NS", 1000)
    root = RealDir(Layer(os.fsencode(lower), open_dir(b"/"), 0, 0, 0, b"", FdCache(1)), None, b"")
    root.pin(open_dir(os.fsencode(lower)))
    ahead_of = ahead.ReadAhead(reader.start)
    ahead_of.loaded([root] * depth, 1000 * depth - 1)
    assert reader.threads == []
    ahead_of.loaded([root] * depth, 1000 * depth)
    assert len(reader.threads) == 1
    ahead_of.close()


def test_a_program_that_is_in_the_middle_of_a_tree_is_read_ahead_of(
    union: UnionFs, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has read already is not read again, and what comes after the directory is."""
    monkeypatch.setattr(ahead, "BEGIN_NS", 1 << 60)
    names = [name for _, name, d_type, _ in union.listdir(ROOT_NODEID, 0) if d_type == DT_DIR][2:]
    here = DIRS - 20
    middle = union.lookup(ROOT_NODEID, names[here])
    assert middle is not None
    assert reader.threads == []
    monkeypatch.setattr(ahead, "BEGIN_NS", 0)
    (*_,) = union.listdir(middle.nodeid, 0)
    wait(lambda: not reader.threads[0].is_alive())
    following = [os.fsdecode(name) for name in names[here + 1 :]]
    walked = [name for after in following for name in (after, "below")]
    assert reader.read == [names[here].decode(), "below", "lower", *walked]


def test_far_down_in_a_tree_the_top_of_it_is_kept(
    tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = tmp_path / "deep"
    for level in range(50):
        (at / f"next{level}").mkdir(parents=True)
        at /= f"sub{level}"
    at.mkdir()
    (tmp_path / "deep/last").mkdir()
    lower = os.fsencode(tmp_path / "deep")
    monkeypatch.setattr(ahead, "BEGIN_NS", 1 << 60)
    union = open_union(UnionConfig(lowers=(lower,)), background=reader.start)
    nodeid = ROOT_NODEID
    for level in range(50):
        found = union.lookup(nodeid, b"sub%d" % level)
        assert found is not None
        nodeid = found.nodeid
    monkeypatch.setattr(ahead, "BEGIN_NS", 0)
    before = len(list(open_paths()))
    (*_,) = union.listdir(nodeid, 0)
    wait(lambda: not reader.threads[0].is_alive())
    listed = [
        name.decode() for _, name, d_type, _ in union.listdir(ROOT_NODEID, 0) if d_type == DT_DIR
    ]
    assert set(listed[listed.index("sub0") + 1 :]) <= set(reader.read)
    assert "next0" not in reader.read or listed.index("next0") > listed.index("sub0")
    assert len(list(open_paths())) <= before + 1  # the directory that was listed
    union.close()


def test_reading_ahead_begins_when_more_was_waited_than_neighbours_take(
    lower: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "COLD_NS", 10)
    monkeypatch.setattr(ahead, "BEGIN_NS", 1000)
    root = RealDir(Layer(os.fsencode(lower), open_dir(b"/"), 0, 0, 0, b"", FdCache(1)), None, b"")
    root.pin(open_dir(os.fsencode(lower)))
    ahead_of = ahead.ReadAhead(reader.start)
    for waited in (900, *[0] * 80, 800, *[11] * 90):  # 900, 100, 890, 980
        ahead_of.loaded([root], waited)
    assert reader.threads == []
    ahead_of.loaded([root], 1 << 40)
    assert len(reader.threads) == 1
    ahead_of.close()
    again = ahead.ReadAhead(reader.start)
    again.loaded([], 1 << 40)
    for _ in range(99):
        again.loaded([root], 0)
    again.loaded([root], 9)
    assert len(reader.threads) == 1
    again.loaded([root], 12)
    assert len(reader.threads) == 2
    again.close()


def test_directories_are_found_where_the_filesystem_does_not_say_types(
    union: UnionFs, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untyped(fd: int) -> Iterator[tuple[bytes, int, int]]:
        for name, ino, _ in entries(fd):
            yield name, ino, 0
        yield b"removed meanwhile", 1, 0

    monkeypatch.setattr(ahead, "entries", untyped)
    (*_,) = union.listdir(ROOT_NODEID, 0)
    wait(lambda: not reader.threads[0].is_alive())
    assert len(reader.read) == ahead.MOST + 1


def test_a_directory_that_cannot_be_read_is_tried_once(
    union: UnionFs, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> Iterator[tuple[bytes, int, int]]:
        raise OSError(errno.EIO, "a fault")

    monkeypatch.setattr(ahead, "entries", fail)
    (*_,) = union.listdir(ROOT_NODEID, 0)
    wait(lambda: not reader.threads[0].is_alive())
    assert reader.read == ["lower"]


def test_what_cannot_be_read_ahead_is_no_error(union: UnionFs, reader: Reader, lower: Path) -> None:
    os.rename(lower / "d0", lower / "gone")
    (*_,) = union.listdir(ROOT_NODEID, 0)
    wait(lambda: len(reader.read) > 1)
    union.close()
    assert not any(str(lower) in path for path in open_paths())


def open_paths() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the directory, which is listed
            yield os.readlink(f"/proc/self/fd/{fd}")


def test_a_union_that_reads_from_memory_starts_nothing(
    union: UnionFs, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "COLD_NS", 1 << 60)
    (*_,) = union.listdir(ROOT_NODEID, 0)
    assert reader.threads == []


@pytest.mark.parametrize(("used_ns", "starts"), [(50_000_000, False), (0, True)])
def test_a_directory_that_only_takes_long_to_read_starts_nothing(
    union: UnionFs, reader: Reader, monkeypatch: pytest.MonkeyPatch, used_ns: int, starts: bool
) -> None:
    """A large one in memory takes processor time, and is not waited for."""
    took = itertools.count(0, 50_000_000)
    used = itertools.count(0, used_ns) if used_ns else itertools.repeat(0)
    monkeypatch.setattr(ahead, "COLD_NS", 100_000)
    monkeypatch.setattr(lookup, "perf_counter_ns", lambda: next(took))
    monkeypatch.setattr(lookup, "thread_time_ns", lambda: next(used))
    (*_,) = union.listdir(ROOT_NODEID, 0)
    assert bool(reader.threads) == starts


def test_without_a_thread_nothing_is_read_ahead(lower: Path, reader: Reader) -> None:
    def refuse(work: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    union = open_union(UnionConfig(lowers=(os.fsencode(lower),)), background=refuse)
    assert len(list(union.listdir(ROOT_NODEID, 0))) == DIRS + 4
    union.close()
    assert reader.read == []
