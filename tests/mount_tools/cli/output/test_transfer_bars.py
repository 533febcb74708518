"""The bars of a transfer: what they add up to."""

from __future__ import annotations

import io

from layerstore.registry.events import Event, Status
from mount_tools.cli.output.transfer_bars import TransferBars
from tests.helpers.bars import bar_of


def shown(*events: Event) -> str:
    """Return what is on the screen after these events."""
    stream = io.StringIO()
    bars = TransferBars(stream)
    for event in events:
        bars.update(event)
    bars.close()
    return stream.getvalue()


def test_the_total_is_what_goes_over_the_network() -> None:
    events = [
        Event("latest", "x", Status.PULLING_FROM, note="x"),
        Event("old", "x", Status.ALREADY_EXISTS, 0, 999),
        Event("aaa", "x", Status.PULLING, 0, 10),
        Event("bbb", "x", Status.PULLING, 0, 20),
        Event("bbb", "x", Status.WAITING, 0, 20),
    ]
    assert bar_of("Total", shown(*events)) == "0/30 bytes"
    events.append(Event("aaa", "x", Status.DOWNLOADING, 5, 10))
    assert bar_of("Total", shown(*events)) == "5/30 bytes"
    events.append(Event("aaa", "x", Status.DOWNLOADED, 0, 10))
    events.append(Event("aaa", "x", Status.EXTRACTING, 2, 10))
    text = shown(*events)
    assert bar_of("Total", text) == "10/30 bytes", "unpacking is no transfer"
    assert bar_of("aaa", text) == "2/10 bytes"
    text = shown(*events, Event("aaa", "x", Status.PULLED, 0, 10))
    assert bar_of("aaa", text) == "10/10 bytes"
    assert "latest: Pulling from x" in text


def test_a_push_whose_sizes_are_not_known_has_no_total() -> None:
    events = [
        Event("aaa", "x", Status.PUSHING, 5, 10),
        Event("bbb", "x", Status.PUSHING, 5, None),
    ]
    assert bar_of("Total", shown(*events)) == "10/? bytes"
    events.append(Event("bbb", "x", Status.PUSHED, 7, 7))
    assert bar_of("Total", shown(*events)) == "12/17 bytes"
