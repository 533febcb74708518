"""The results as a picture: an SVG for the README.

Decided here and only here: the drawing.  A line for each row that is work, on
it a mark for each subject at its ratio to kernel overlayfs, on a logarithmic
axis.  Marks instead of bars: on such an axis the length of a bar means nothing.
Each subject has a colour and a shape of its own; the whisker is the spread.

No background is drawn, and what is grey is legible on white and on black.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

from benchmarks.report import times
from benchmarks.results import Results
from benchmarks.subjects import BY_NAME, KERNEL

WIDTH = 960
LEFT = 240
RIGHT = 30
TOP = 96
PITCH = 24
GREY = "#808080"
FONT = "font-family='system-ui, sans-serif' font-size='13'"

_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)

# Colours of Okabe and Ito, who chose them for every eye.
MARKS = {
    "native": ("#999999", "bar"),
    "pyunion-uring": ("#d55e00", "disc"),
    "pyunion-dev": ("#e69f00", "disc"),
    "pyunion-pyfuse3": ("#f0c078", "ring"),
    "fuse-overlayfs": ("#0072b2", "square"),
    "unionfs-fuse": ("#009e73", "diamond"),
    "mergerfs": ("#cc79a7", "triangle"),
    "floor-uring": ("#56b4e9", "bar"),
    "floor-dev": ("#f0e442", "bar"),
    "floor-python-uring": ("#56b4e9", "ring"),
    "floor-python-dev": ("#f0e442", "ring"),
    "least-union-uring": ("#56b4e9", "diamond"),
    "least-union-dev": ("#f0e442", "diamond"),
}


class Axis:
    """Where a ratio lies, in pixels from the left; a whisker that goes further is cut."""

    def __init__(self, ratios: list[float]) -> None:
        least, most = min([0.8, *ratios]), max([2.0, *ratios])
        self._low, self._high = math.log(least * 0.9), math.log(most * 1.1)
        self.ticks = [tick for tick in _TICKS if least * 0.9 <= tick <= most * 1.1]

    def at(self, ratio: float) -> float:
        part = (math.log(ratio) - self._low) / (self._high - self._low)
        return LEFT + min(max(part, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)


def chart(results: Results) -> str:
    """Return the SVG document."""
    rows = [name for name, row in results.rows.items() if row.in_mean]
    subjects = [subject for subject in results.subjects if subject in MARKS]
    ratios = [r for row in rows for s in subjects if (r := results.ratio(row, s)) is not None]
    axis = Axis(ratios)
    height = TOP + PITCH * (len(rows) + 1) + 40
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' "
        f"width='{WIDTH}' height='{height}' role='img' {FONT} fill='{GREY}'>",
        "<title>PyUnion and its peers: time taken, as a multiple of kernel overlayfs</title>",
        _text(10, 22, "Time taken, as a multiple of kernel overlayfs; further left is faster"),
        *_legend(subjects),
        *_grid(axis, height),
    ]
    for number, row in enumerate(rows):
        y = TOP + PITCH * (number + 0.5)
        parts.append(_text(LEFT - 14, y + 4, results.rows[row].title, anchor="end"))
        parts += _row(results, row, subjects, axis, y)
    y = TOP + PITCH * (len(rows) + 0.5)
    parts.append(_text(LEFT - 14, y + 4, "geometric mean", anchor="end", weight="bold"))
    for subject in subjects:
        mean, _ = results.mean(subject)
        if mean is not None:
            parts.append(
                _mark(subject, axis.at(mean), y, f"{BY_NAME[subject].title}: {times(mean)}")
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(results: Results, row: str, subjects: list[str], axis: Axis, y: float) -> Iterator[str]:
    kernel = results.median(row, KERNEL)
    if kernel is None:
        yield _text(LEFT, y + 4, "kernel overlayfs has no figure")
        return
    # In reverse, so that the first subjects lie on top.
    for subject in reversed(subjects):
        series = results.of(row, subject)
        if series.median is None:
            continue
        colour, _ = MARKS[subject]
        left, right = (axis.at(pick(series.values) / kernel) for pick in (min, max))
        line = f"stroke='{colour}' stroke-opacity='.45'"
        yield f"<path d='M{left:.1f} {y:.1f}H{right:.1f}' {line}/>"
        ratio = times(series.median / kernel)
        tip = f"{results.rows[row].title}, {BY_NAME[subject].title}: {ratio}"
        yield _mark(subject, axis.at(series.median / kernel), y, tip)


def _legend(subjects: list[str]) -> Iterator[str]:
    per_line = 4
    for number, subject in enumerate(subjects):
        x = 24 + number % per_line * 230
        y = 46 + number // per_line * 20
        yield _mark(subject, x, y, "")
        yield _text(x + 12, y + 4, BY_NAME[subject].title)


def _grid(axis: Axis, height: float) -> Iterator[str]:
    for tick in axis.ticks:
        x = axis.at(tick)
        strength = "1" if tick == 1.0 else ".3"
        yield (
            f"<path d='M{x:.1f} {TOP}V{height - 34}' stroke='{GREY}' stroke-opacity='{strength}'/>"
        )
        yield _text(x, height - 16, f"{tick:g}×", anchor="middle")


def _mark(subject: str, x: float, y: float, tip: str) -> str:
    colour, shape = MARKS[subject]
    fill = f"fill='{colour}'"
    r = 5
    shapes = {
        "disc": f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{r}' {fill}",
        "ring": f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{r - 1}' fill='none' "
        f"stroke='{colour}' stroke-width='2'",
        "square": f"<rect x='{x - 4:.1f}' y='{y - 4:.1f}' width='8' height='8' {fill}",
        "diamond": f"<path d='M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z' {fill}",
        "triangle": f"<path d='M{x:.1f} {y - 6:.1f}l6 10h-12z' {fill}",
        "bar": f"<rect x='{x - 1.5:.1f}' y='{y - 7:.1f}' width='3' height='14' {fill}",
    }
    return f"{shapes[shape]}><title>{escape(tip)}</title></{shapes[shape][1:].split()[0]}>"


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-weight='{weight}'>"
        f"{escape(text)}</text>"
    )
