"""The bars that rich draws: what they add up to."""

from __future__ import annotations

import io

from layerstore.progress import Progress
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
    events = [Progress("aaa", "Loading layer", 5, 10), Progress("bbb", "Waiting")]
    assert bar_of("Total", shown(*events)) == "5/? bytes"
    events.append(Progress("bbb", "Loading layer", 1, 20))
    assert bar_of("Total", shown(*events)) == "6/30 bytes"


def test_a_status_is_neither_markup_nor_control() -> None:
    text = shown(Progress("aaa", "[red]Loading\x1b]0;owned\x07", 5, 10))
    assert r"aaa: [red]Loading\u001b]0;owned\u0007" in text
