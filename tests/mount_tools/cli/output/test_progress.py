"""What shows progress, where and when."""

from __future__ import annotations

import io
import os
import pty
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

import pytest

from layerstore.progress import Progress, Status
from mount_tools.cli.output.progress import Reporter, announced, reported
from tests.helpers.terminals import terminal


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
        report(Progress("aaa", Status.LOADING, 0, 100))
    assert capfd.readouterr() == ("", "")


def test_what_is_over_soon_shows_nothing() -> None:
    def work(stream: TextIO) -> None:
        reporter = Reporter(stream, patience=3600)
        reporter(Progress("aaa", Status.LOADING, 0, 100))
        reporter.close()

    assert on_terminal(work) == ""


def test_the_first_thing_shown_is_the_state_of_all_layers() -> None:
    def work(stream: TextIO) -> None:
        reporter = Reporter(stream, patience=0.2)
        reporter(Progress("aaa", Status.LOADING, 0, 100))
        due = time.monotonic() + 0.2
        while time.monotonic() < due:
            pass
        reporter(Progress("bbb", Status.PULLED, 100, 100))
        reporter.close()

    shown = on_terminal(work)
    assert "aaa: Loading layer" in shown and "bbb: Pull complete" in shown


def test_a_terminal_gets_a_bar_for_each_layer_and_one_for_all() -> None:
    def work(stream: TextIO) -> None:
        reporter = Reporter(stream, patience=0)
        reporter(Progress("aaa", Status.LOADING, 50_000_000, 100_000_000))
        reporter(Progress("bbb", Status.LOADING, 100_000_000, 100_000_000))
        reporter.close()

    text = on_terminal(work)
    assert "aaa: Loading layer" in text
    assert "bbb: Loading layer" in text
    assert "Total" in text
    assert "150.0/200.0 MB" in text


def test_a_transfer_in_a_pipe_gets_lines_at_once_unless_it_is_quiet() -> None:
    stream = io.StringIO()
    with announced(stream) as report:
        report(Progress("aaa", Status.PULLING))
        assert stream.getvalue() == "aaa: Pulling fs layer\n"
    with announced(stream, quiet=True) as report:
        report(Progress("bbb", Status.PULLING))
    assert stream.getvalue() == "aaa: Pulling fs layer\n"


def test_a_transfer_on_a_terminal_gets_bars_at_once() -> None:
    with terminal(24, 100) as tty, open(tty.program, "w", closefd=False) as stream:
        with announced(stream) as report:
            report(Progress("aaa", Status.DOWNLOADING, 1000, 2000))
        tty.await_text(b"aaa: Downloading")


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_shows_nothing(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(stream: TextIO) -> None:
        monkeypatch.setattr(sys, "stderr", stream)
        with reported(quiet=quiet, patience=0) as report:
            report(Progress("aaa", Status.LOADING, 0, 100))

    assert ("aaa: Loading layer" in on_terminal(work)) is not quiet
