"""The bars that rich draws: what they add up to."""

from __future__ import annotations

import io

from layerstore.progress import Progress, Status
from mount_tools.cli.output.progress_bars import Bars
from tests.helpers.bars import bar_of


def shown(*events: Progress) -> str:
    """Return what is on the screen after these events."""
    stream = io.StringIO()
    bars = Bars(stream)
    for event in events:
        bars.update(event)
    bars.close()
    return stream.getvalue()


def test_there_is_no_total_before_every_layer_has_one() -> None:
    events = [Progress("aaa", Status.LOADING, 5, 10), Progress("bbb", Status.WAITING)]
    assert bar_of("Total", shown(*events)) == "5/? bytes"
    events.append(Progress("bbb", Status.LOADING, 1, 20))
    assert bar_of("Total", shown(*events)) == "6/30 bytes"


def test_a_note_is_neither_markup_nor_control() -> None:
    text = shown(Progress("aaa", Status.MOUNTED, 5, 10, note="[red]x\x1b]0;owned\x07"))
    assert r"aaa: Mounted from [red]x\u001b]0;owned\u0007" in text


def test_the_total_is_what_goes_over_the_network() -> None:
    events = [
        Progress("latest", Status.PULLING_FROM, note="x", parent="x"),
        Progress("old", Status.ALREADY_EXISTS, 0, 999, parent="x"),
        Progress("aaa", Status.PULLING, 0, 10, parent="x"),
        Progress("bbb", Status.PULLING, 0, 20, parent="x"),
        Progress("bbb", Status.WAITING, 0, 20, parent="x"),
    ]
    assert bar_of("Total", shown(*events)) == "0/30 bytes"
    events.append(Progress("aaa", Status.DOWNLOADING, 5, 10, parent="x"))
    assert bar_of("Total", shown(*events)) == "5/30 bytes"
    events.append(Progress("aaa", Status.DOWNLOADED, 0, 10, parent="x"))
    events.append(Progress("aaa", Status.EXTRACTING, 2, 10, parent="x"))
    text = shown(*events)
    assert bar_of("Total", text) == "10/30 bytes", "unpacking is no transfer"
    assert bar_of("aaa", text) == "2/10 bytes"
    text = shown(*events, Progress("aaa", Status.PULLED, 0, 10, parent="x"))
    assert bar_of("aaa", text) == "10/10 bytes"
    assert "latest: Pulling from x" in text


def test_a_push_whose_sizes_are_not_known_has_no_total() -> None:
    events = [
        Progress("aaa", Status.PUSHING, 5, 10, parent="x"),
        Progress("bbb", Status.PUSHING, 5, None, parent="x"),
    ]
    assert bar_of("Total", shown(*events)) == "10/? bytes"
    events.append(Progress("bbb", Status.PUSHED, 7, 7, parent="x"))
    assert bar_of("Total", shown(*events)) == "12/17 bytes"
