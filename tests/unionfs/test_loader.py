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
from unionfs.loader import StillRunning, is_loading, loader_base


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
