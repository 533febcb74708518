"""What a pipe gets to read of a transfer."""

from __future__ import annotations

import io

from layerstore.registry.events import Event, Status
from mount_tools.cli.output.transfers import line_of, shown
from tests.helpers.terminals import terminal


def test_a_pipe_gets_a_line_for_each_status() -> None:
    stream = io.StringIO()
    with shown(stream) as report:
        report(Event("latest", "x", Status.PULLING_FROM, note="library/x"))
        report(Event("aaa", "x", Status.PULLING, 0, 9))
        for done in range(9):
            report(Event("aaa", "x", Status.DOWNLOADING, done, 9))
        report(Event("aaa", "x", Status.DOWNLOADED, 9, 9))
        report(Event("aaa", "x", Status.DOWNLOADED, 9, 9))
        report(Event("bbb", "x", Status.MOUNTED, note="other"))
        report(Event("", "x", Status.DIGEST, note="sha256:1"))
    assert stream.getvalue().splitlines() == [
        "latest: Pulling from library/x",
        "aaa: Pulling fs layer",
        "aaa: Download complete",
        "bbb: Mounted from other",
        "Digest: sha256:1",
    ]


def test_a_layer_of_another_image_is_told_again() -> None:
    stream = io.StringIO()
    with shown(stream) as report:
        for parent in ("x", "y"):
            report(Event("aaa", parent, Status.ALREADY_EXISTS))
    assert stream.getvalue() == "aaa: Already exists\n" * 2


def test_a_layer_that_an_image_has_twice_is_fetched_once_and_announced_twice() -> None:
    stream = io.StringIO()
    with shown(stream) as report:
        for status in (Status.PREPARING, Status.PREPARING, Status.VERIFYING, Status.DOWNLOADED):
            report(Event("aaa", "x", status))
        for status in (Status.VERIFYING, Status.DOWNLOADED, Status.PULLED, Status.PULLED):
            report(Event("aaa", "x", status))
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()] == [
        *("Preparing", "Preparing", "Verifying Checksum", "Download complete", "Pull complete"),
    ]


def test_quiet_is_silent() -> None:
    stream = io.StringIO()
    with shown(stream, quiet=True) as report:
        report(Event("aaa", "x", Status.PULLING))
    assert stream.getvalue() == ""


def test_nothing_of_a_registry_is_a_line_of_its_own() -> None:
    assert line_of(Event("a\nb", "x", Status.MOUNTED, note="\x1b[1m")) == (
        r"a\nb: Mounted from \u001b[1m"
    )


def test_a_terminal_gets_bars() -> None:
    with terminal(24, 100) as tty, open(tty.program, "w", closefd=False) as stream:
        with shown(stream) as report:
            report(Event("aaa", "x", Status.DOWNLOADING, 1000, 2000))
        tty.await_text(b"aaa: Downloading")
