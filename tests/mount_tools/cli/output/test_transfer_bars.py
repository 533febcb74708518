"""The bars of a transfer: what they add up to."""

from __future__ import annotations

import io

from layerstore.registry.events import Event, Status
from mount_tools.cli.output.transfer_bars import TransferBars


def total_of(bars: TransferBars) -> tuple[float, float | None]:
    task = bars._drawing.tasks[bars._total]
    return task.completed, task.total


def test_the_total_is_what_goes_over_the_network() -> None:
    stream = io.StringIO()
    bars = TransferBars(stream)
    try:
        bars.update(Event("latest", "x", Status.PULLING_FROM, note="x"))
        bars.update(Event("old", "x", Status.ALREADY_EXISTS, 0, 999))
        bars.update(Event("aaa", "x", Status.PULLING, 0, 10))
        bars.update(Event("bbb", "x", Status.PULLING, 0, 20))
        bars.update(Event("bbb", "x", Status.WAITING, 0, 20))
        assert total_of(bars) == (0, 30)
        bars.update(Event("aaa", "x", Status.DOWNLOADING, 5, 10))
        assert total_of(bars) == (5, 30)
        bars.update(Event("aaa", "x", Status.DOWNLOADED, 0, 10))
        bars.update(Event("aaa", "x", Status.EXTRACTING, 2, 10))
        assert total_of(bars) == (10, 30), "unpacking is no transfer"
        assert bars._drawing.tasks[bars._tasks["aaa"]].completed == 2
        bars.update(Event("aaa", "x", Status.PULLED, 0, 10))
        assert bars._drawing.tasks[bars._tasks["aaa"]].completed == 10
    finally:
        bars.close()
    assert "latest: Pulling from x" in stream.getvalue()


def test_a_push_whose_sizes_are_not_known_has_no_total() -> None:
    bars = TransferBars(io.StringIO())
    try:
        bars.update(Event("aaa", "x", Status.PUSHING, 5, 10))
        bars.update(Event("bbb", "x", Status.PUSHING, 5, None))
        assert total_of(bars) == (10, None)
        bars.update(Event("bbb", "x", Status.PUSHED, 7, 7))
        assert total_of(bars) == (12, 17)
    finally:
        bars.close()
