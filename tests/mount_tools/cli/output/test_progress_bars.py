"""The bars that rich draws: what they add up to."""

from __future__ import annotations

import io

from layerstore.progress import Progress
from mount_tools.cli.output.progress_bars import Bars


def test_there_is_no_total_before_every_layer_has_one() -> None:
    bars = Bars(io.StringIO())
    try:
        bars.update(Progress("aaa", "Loading layer", 5, 10))
        bars.update(Progress("bbb", "Waiting"))
        total = bars._drawing.tasks[bars._total]
        assert (total.completed, total.total) == (5, None)
        bars.update(Progress("bbb", "Loading layer", 1, 20))
        total = bars._drawing.tasks[bars._total]
        assert (total.completed, total.total) == (6, 30)
    finally:
        bars.close()


def test_a_status_is_neither_markup_nor_control() -> None:
    stream = io.StringIO()
    bars = Bars(stream)
    bars.update(Progress("aaa", "[red]Loading\x1b]0;owned\x07", 5, 10))
    bars.close()
    assert r"aaa: [red]Loading\u001b]0;owned\u0007" in stream.getvalue()
