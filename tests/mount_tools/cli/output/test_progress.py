"""Progress stays silent for a moment, then says what changed."""

from __future__ import annotations

import io
import os
import pty
import threading
import time

import pytest

from layerstore.progress import Progress
from mount_tools.cli.output.progress import Reporter, reported


def test_a_pipe_gets_a_line_for_each_change_of_status() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream, patience=0)
    for event in (
        Progress("aaa", "Loading layer", 0, 100),
        Progress("aaa", "Loading layer", 50, 100),
        Progress("bbb", "Loading layer", 0, None),
        Progress("aaa", "Load complete", 100, 100),
        Progress("", "Syncing"),
    ):
        reporter(event)
    reporter.close()
    assert stream.getvalue() == (
        "aaa: Loading layer\nbbb: Loading layer\naaa: Load complete\nSyncing\n"
    )


def test_what_is_over_soon_shows_nothing() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream, patience=3600)
    reporter(Progress("aaa", "Loading layer", 0, 100))
    reporter.close()
    assert stream.getvalue() == ""


def test_the_first_thing_shown_is_the_state_of_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    reporter = Reporter(stream, patience=3600)
    reporter(Progress("aaa", "Loading layer", 0, 100))
    later = time.monotonic() + 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    reporter(Progress("bbb", "Loading layer", 0, 100))
    assert stream.getvalue() == "aaa: Loading layer\nbbb: Loading layer\n"


def test_a_terminal_gets_a_bar_for_each_layer_and_one_for_all() -> None:
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
        reporter = Reporter(stream, patience=0)
        reporter(Progress("aaa", "Loading layer", 50_000_000, 100_000_000))
        reporter(Progress("bbb", "Load complete", 100_000_000, 100_000_000))
        reporter.close()
    reader.join()
    os.close(leader)
    text = shown.decode()
    assert "aaa: Loading layer" in text
    assert "bbb: Load complete" in text
    assert "Total" in text
    assert "150.0/200.0 MB" in text


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_asks_for_no_reports(quiet: bool) -> None:
    with reported(quiet=quiet) as report:
        assert (report is None) is quiet
