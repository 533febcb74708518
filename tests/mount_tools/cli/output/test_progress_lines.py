"""What a pipe gets to read of a transfer."""

from __future__ import annotations

import io

from layerstore.progress import Progress, Status
from mount_tools.cli.output.progress_lines import Lines, line_of


def test_a_pipe_gets_a_line_for_each_status() -> None:
    stream = io.StringIO()
    report = Lines(stream).update
    report(Progress("latest", Status.PULLING_FROM, note="library/x", parent="x"))
    report(Progress("aaa", Status.PULLING, 0, 9, parent="x"))
    for done in range(9):
        report(Progress("aaa", Status.DOWNLOADING, done, 9, parent="x"))
    report(Progress("aaa", Status.DOWNLOADED, 9, 9, parent="x"))
    report(Progress("aaa", Status.DOWNLOADED, 9, 9, parent="x"))
    report(Progress("bbb", Status.MOUNTED, note="other", parent="x"))
    report(Progress("", Status.DIGEST, note="sha256:1", parent="x"))
    assert stream.getvalue().splitlines() == [
        "latest: Pulling from library/x",
        "aaa: Pulling fs layer",
        "aaa: Download complete",
        "bbb: Mounted from other",
        "Digest: sha256:1",
    ]


def test_a_layer_of_another_image_is_told_again() -> None:
    stream = io.StringIO()
    report = Lines(stream).update
    for parent in ("x", "y"):
        report(Progress("aaa", Status.ALREADY_EXISTS, parent=parent))
    assert stream.getvalue() == "aaa: Already exists\n" * 2


def test_a_layer_that_an_image_has_twice_is_fetched_once_and_announced_twice() -> None:
    stream = io.StringIO()
    report = Lines(stream).update
    for status in (Status.PREPARING, Status.PREPARING, Status.VERIFYING, Status.DOWNLOADED):
        report(Progress("aaa", status, parent="x"))
    for status in (Status.VERIFYING, Status.DOWNLOADED, Status.PULLED, Status.PULLED):
        report(Progress("aaa", status, parent="x"))
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()] == [
        *("Preparing", "Preparing", "Verifying Checksum", "Download complete", "Pull complete"),
    ]


def test_nothing_of_a_registry_is_a_line_of_its_own() -> None:
    assert line_of(Progress("a\nb", Status.MOUNTED, note="\x1b[1m", parent="x")) == (
        r"a\nb: Mounted from \u001b[1m"
    )
