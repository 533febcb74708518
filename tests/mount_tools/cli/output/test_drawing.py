"""Bars: what is on the screen at the end."""

from __future__ import annotations

import io

from mount_tools.cli.output.drawing import Drawing
from tests.helpers.bars import bar_of


def test_a_bar_for_each_and_one_for_all() -> None:
    stream = io.StringIO()
    drawing = Drawing(stream)
    drawing.bar("one", "the first [one]", 1, 3)
    drawing.total(1, [3])
    drawing.bar("two", "the second", 2, None)
    drawing.total(3, [3, None])
    drawing.print("a line\x1b[2J")
    drawing.bar("one", "the first [one]", 3, 3)
    drawing.close()
    text = stream.getvalue()
    assert bar_of("the first [one]", text) == "3/3 bytes"
    assert bar_of("the second", text) == "2/? bytes"
    assert bar_of("Total", text) == "3/? bytes"
    assert r"a line\u001b[2J" in text and "\x1b[2J" not in text


def test_one_bar_has_no_total() -> None:
    stream = io.StringIO()
    drawing = Drawing(stream)
    drawing.bar("one", "alone", 1, 3)
    drawing.total(1, [3])
    drawing.close()
    assert "Total" not in stream.getvalue()
