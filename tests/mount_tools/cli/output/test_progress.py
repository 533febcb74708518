"""Progress stays silent for a moment, then says what changed."""

from __future__ import annotations

import os
import pty
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

import pytest

from layerstore.progress import Progress
from mount_tools.cli.output.progress import Reporter, reported


def on_terminal(work: Callable[[TextIO], None]) -> str:
    """Return what a terminal was shown by `work`."""
    leader, follower = pty.openpty()
    shown = b""

    def read() -> None:
        nonlocal shown
        while True:
            try:
                data = os.read(leader, 4096)
            except OSError:  # EIO: the follower was closed
                return
            shown += data

    reader = threading.Thread(target=read)
    reader.start()
    with open(follower, "w") as stream:
        work(stream)
    reader.join()
    os.close(leader)
    return shown.decode()


def test_a_pipe_gets_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with reported(patience=0) as report:
        assert report is None
    assert capfd.readouterr() == ("", "")


def test_what_is_over_soon_shows_nothing() -> None:
    def work(stream: TextIO) -> None:
        reporter = Reporter(stream, patience=3600)
        reporter(Progress("aaa", "Loading layer", 0, 100))
        reporter.close()

    assert on_terminal(work) == ""


def test_the_first_thing_shown_is_the_state_of_all_layers() -> None:
    def work(stream: TextIO) -> None:
        reporter = Reporter(stream, patience=0.2)
        reporter(Progress("aaa", "Loading layer", 0, 100))
        due = time.monotonic() + 0.2
        while time.monotonic() < due:
            pass
        reporter(Progress("bbb", "Load complete", 100, 100))
        reporter.close()

    shown = on_terminal(work)
    assert "aaa: Loading layer" in shown and "bbb: Load complete" in shown


def test_a_terminal_gets_a_bar_for_each_layer_and_one_for_all() -> None:
    def work(stream: TextIO) -> None:
        reporter = Reporter(stream, patience=0)
        reporter(Progress("aaa", "Loading layer", 50_000_000, 100_000_000))
        reporter(Progress("bbb", "Load complete", 100_000_000, 100_000_000))
        reporter.close()

    text = on_terminal(work)
    assert "aaa: Loading layer" in text
    assert "bbb: Load complete" in text
    assert "Total" in text
    assert "150.0/200.0 MB" in text


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_asks_for_no_reports(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with reported(quiet=quiet) as report:
        assert (report is None) is quiet
