"""Whether a thread is in its dynamic loader."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import DEADLINE, require_root, wait_until
from unionfs.loader import SURE, SURE_S, LoaderWatch, StillRunning, is_loading, loader_base

READER, LOADER = 11, 22  # threads


class Looks:
    """Stands for looks at threads, of which `loading` are in their loader, at the time `now`."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.loading: set[int] = set()
        self.running = False
        self.now = 100.0

    def is_loading(self, pid: int) -> bool:
        self.seen.append(pid)
        if self.running:
            raise StillRunning
        return pid in self.loading


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "library.so")
    return tmp_path / "library.so"


@pytest.fixture
def child(request: pytest.FixtureRequest, fifo: Path) -> Iterator[int]:
    """The pid of a process that waits to open a FIFO."""
    words = [word.replace("FIFO", str(fifo)) for word in request.param]
    preload = {"LD_PRELOAD": str(fifo)} if len(words) == 1 else {}
    process = subprocess.Popen(words, env={**os.environ, **preload})
    try:
        wait_until(lambda: waits_in_open(process.pid), f"{words} to open the FIFO")
        yield process.pid
    finally:
        process.kill()
        process.wait(DEADLINE)


def waits_in_open(pid: int) -> bool:
    require_root()  # to look into the process
    return Path(f"/proc/{pid}/wchan").read_text() == "wait_for_partner"


@pytest.mark.parametrize(
    "child",
    [
        ("/bin/true",),  # with LD_PRELOAD
        (sys.executable, "-c", "import ctypes; ctypes.CDLL('FIFO')"),
    ],
    indirect=True,
)
def test_a_library_is_opened_by_the_loader(child: int) -> None:
    """At the start of a program, and by dlopen(3)."""
    assert is_loading(child)


@pytest.mark.parametrize(
    "child", [("/bin/cat", "FIFO"), (sys.executable, "-c", "open('FIFO')")], indirect=True
)
def test_a_file_is_opened_by_the_program_itself(child: int) -> None:
    assert not is_loading(child)


def test_a_thread_that_cannot_be_seen_is_not_loading() -> None:
    assert not is_loading(0)


def test_a_thread_that_runs_has_no_system_call() -> None:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        wait_until(lambda: runs(process.pid), "the process to run on")
    finally:
        process.kill()
        process.wait(DEADLINE)


def runs(pid: int) -> bool:
    try:
        is_loading(pid)
    except StillRunning:
        return True
    return False


@pytest.mark.parametrize(
    ("auxv", "base"),
    [
        (struct.pack("=6Q", 33, 0x7FFF12345000, 7, 0x7F1234560000, 0, 0), 0x7F1234560000),
        (struct.pack("=6I", 33, 0xF7FC1000, 7, 0xF7FC5000, 0, 0), 0xF7FC5000),
        (struct.pack("=4Q", 33, 0x7FFF12345000, 0, 0), 0),
        (b"", 0),
    ],
)
def test_the_place_of_the_loader_is_read_for_32_bits_too(auxv: bytes, base: int) -> None:
    assert loader_base(auxv) == base


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks = Looks()
    monkeypatch.setattr("unionfs.loader.is_loading", looks.is_loading)
    monkeypatch.setattr("unionfs.loader.monotonic", lambda: looks.now)
    return looks


def test_a_thread_that_reads_libraries_as_data_is_not_looked_at_each_time(looks: Looks) -> None:
    watch = LoaderWatch()
    assert not any(watch.is_loading(READER) for _ in range(100))
    assert looks.seen == [READER] * SURE
    looks.now += SURE_S
    assert not any(watch.is_loading(READER) for _ in range(100))
    assert looks.seen == [READER] * (SURE + 1)


def test_a_thread_that_loads_is_looked_at_each_time(looks: Looks) -> None:
    watch = LoaderWatch()
    looks.loading = {LOADER}
    assert all(watch.is_loading(LOADER) for _ in range(2 * SURE))
    assert len(looks.seen) == 2 * SURE


def test_what_one_thread_does_says_nothing_about_another(looks: Looks) -> None:
    watch = LoaderWatch()
    looks.loading = {LOADER}
    for _ in range(2 * SURE):
        watch.is_loading(READER)
    assert watch.is_loading(LOADER)


def test_a_thread_that_read_and_then_executes_a_program_is_looked_at_again(looks: Looks) -> None:
    watch = LoaderWatch()
    for _ in range(2 * SURE):
        watch.is_loading(READER)
    looks.loading = {READER}
    watch.executes(LOADER)
    assert not watch.is_loading(READER)
    watch.executes(READER)
    assert watch.is_loading(READER)


def test_a_thread_that_runs_still_says_nothing(looks: Looks) -> None:
    watch = LoaderWatch()
    looks.running = True
    for _ in range(2 * SURE):
        with pytest.raises(StillRunning):
            watch.is_loading(READER)
    looks.running = False
    looks.loading = {READER}
    assert watch.is_loading(READER)
