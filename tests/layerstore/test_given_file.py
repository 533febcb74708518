"""Files that a person names, and what is none."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from layerstore.given_file import read_given


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("four")
    assert read_given(str(tmp_path / "file"), 10) == b"four"
    assert read_given(str(tmp_path / "file"), 3) == b"fou"
    assert read_given("/dev/zero", 5) == bytes(5)


def test_a_fifo_without_a_writer_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="a FIFO that no process writes to"):
        read_given(str(tmp_path / "fifo"), 10)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(IsADirectoryError):
        read_given(str(tmp_path), 10)
    assert os.listdir("/proc/self/fd") == before


def test_a_process_of_the_shell_is_waited_for(tmp_path: Path) -> None:
    """As `<(command)` does, the reader gets a pipe to which another process writes."""
    reading, writing = os.pipe()

    def write() -> None:
        os.write(writing, b"first ")
        os.write(writing, b"second")
        os.close(writing)

    thread = threading.Timer(0.01, write)
    thread.start()
    assert read_given(f"/dev/fd/{reading}", 100) == b"first second"
    thread.join()
    os.close(reading)


def test_a_process_of_the_shell_may_have_ended_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    assert read_given(f"/dev/fd/{reading}", 100) == b""
    os.close(reading)
