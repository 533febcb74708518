"""The chart is valid XML and has a mark for each figure, and only for those."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.chart import MARKS, Axis, chart
from benchmarks.results import Results
from benchmarks.subjects import BY_NAME, KERNEL


def test_every_subject_but_the_base_has_a_mark() -> None:
    assert set(MARKS) == set(BY_NAME) - {KERNEL}


def test_chart_shows_work_alone(results: Results) -> None:
    drawn = ElementTree.fromstring(chart(results))
    texts = [element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    tips = [element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert {"find", "touch", "geometric mean", "1×"} <= set(texts)
    assert "mount" not in texts
    assert "find, PyUnion, io_uring: 1.50×" in tips
    assert not [tip for tip in tips if tip.startswith("touch, fuse-overlayfs")]


def test_axis_is_logarithmic_and_holds_all() -> None:
    axis = Axis([0.3, 30.0])
    assert axis.at(20.0) - axis.at(5.0) == pytest.approx(axis.at(4.0) - axis.at(1.0))
    assert axis.at(0.01) < axis.at(0.3) < axis.at(1.0) < axis.at(30.0) < axis.at(1000.0)
    assert axis.ticks == [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]


def test_chart_of_nothing_is_a_chart() -> None:
    ElementTree.fromstring(chart(Results(subjects=["pyunion-uring"])))
