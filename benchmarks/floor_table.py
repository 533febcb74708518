"""`python -m benchmarks.floor_table RUN.json`: the tables of `docs/floor.md`.

RUN.json is what `python -m benchmarks --floor` has left.  Its medians are kept beside the
program, and the tables of the page are written anew from them.

Decided here and only here: the figures that we aim at, and what the page shows of a run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import figure
from benchmarks.results import Results, from_json
from benchmarks.subjects import BY_NAME, KERNEL, NATIVE

_HERE = Path(__file__).parent
KEPT = _HERE / "results" / "floor.json"
PAGE = _HERE.parent / "docs" / "floor.md"

_BEGIN, _END = "<!-- tables: begin -->", "<!-- tables: end -->"

# With io_uring, and without.
_FLOOR = ("floor-uring", "floor-dev")
_PYTHON = ("floor-python-uring", "floor-python-dev")
_LEAST = ("least-union-uring", "least-union-dev")
_OURS = ("pyunion-uring", "pyunion-dev")
_SHOWN = (NATIVE, *_FLOOR, *_PYTHON, *_LEAST, *_OURS)
# What is compared with an aim, or with a peer: the floors, and ours last.
_COMPARED = (_FLOOR, _PYTHON, _LEAST, _OURS)
_TITLES = ("floor in C", "floor in Python", "least union in Python", "PyUnion", "in reach")

# How many times the least union a union takes at least that leaves nothing out.
_WHOLE = 1.1
# How many times ours the least can take, by chance, and still be the least.
_MUCH = 1.5


class Goal(NamedTuple):
    """How many times kernel overlayfs a row may take; an empty `row` is the geometric mean."""

    row: str
    most: float
    without: float | None = None  # without io_uring, where that differs


GOALS = (
    Goal("", 1.15, 1.5),
    Goal("miss", 3.0),
    Goal("reopen", 3.0),
    Goal("churn", 3.5),
    Goal("churn-2", 3.5),
    Goal("tar-extract", 2.5),
    Goal("rm-upper", 2.5),
    Goal("rm-lower", 2.5),
    Goal("grep-warm", 2.5),
    Goal("read", 1.2),
    Goal("randread", 1.2),
    Goal("write", 1.2),
    Goal("randwrite", 1.2),
)


def tables(results: Results) -> str:
    """Return the tables of the page, as Markdown."""
    about = results.about
    words = [about["scale"], about["machine"], f"Linux {about['kernel']}", about["date"]]
    if load := about.get("load before"):
        words.append(f"load before {load}")
    said = f"{', '.join(words)}."
    return "\n\n".join((said, _rows(results), _goals(results), _behind(results))) + "\n"


def _ratio(results: Results, row: str, subject: str) -> float | None:
    """Return how many times overlayfs the subject takes; of the mean for no row."""
    return results.ratio(row, subject) if row else results.mean(subject)[0]


def _shown(ratio: float | None) -> str:
    return "" if ratio is None else figure(ratio)


def _rows(results: Results) -> str:
    titles = [BY_NAME[subject].title for subject in _SHOWN]
    last = ["best FUSE peer", "PyUnion × least union, io_uring"]
    lines = [["× kernel overlayfs", "ms or µs of overlayfs", *titles, *last]]
    for name, row in results.rows.items():
        median = results.median(name, KERNEL)
        if median is None or not (row.in_mean or name in {goal.row for goal in GOALS}):
            continue
        peer = results.best_peer(name)
        lines.append(
            [
                row.title,
                f"{figure(median)} {row.unit}",
                *(_shown(results.ratio(name, subject)) for subject in _SHOWN),
                "" if peer is None else _shown(results.ratio(name, peer)),
                _shown(_above(results, name)),
            ]
        )
    means = [_shown(results.mean(subject)[0]) for subject in _SHOWN]
    lines.append(["geometric mean", "", *means, "", _shown(_above(results, ""))])
    return _markdown(lines)


def _above(results: Results, row: str) -> float | None:
    """Return how many times the least union we take, both with io_uring."""
    least, ours = (_ratio(results, row, subject) for subject in (_LEAST[0], _OURS[0]))
    return None if least is None or ours is None else ours / least


def _goals(results: Results) -> str:
    lines = [["aim", "io_uring", "most", *_TITLES]]
    for goal in GOALS:
        if goal.row and goal.row not in results.rows:
            continue
        title = results.rows[goal.row].title if goal.row else "geometric mean"
        most = ((True, goal.most), (False, goal.without)) if goal.without else ((True, goal.most),)
        for uring, limit in most:
            compared = [of[0 if uring else 1] for of in _COMPARED]
            ratios = [_ratio(results, goal.row, subject) for subject in compared]
            lines.append(
                [
                    title,
                    "on" if uring else "off",
                    figure(limit),
                    *map(_shown, ratios),
                    "reached" if _is_within(ratios[-1], limit) else _verdict(limit, *ratios),
                ]
            )
    return _markdown(lines)


def _behind(results: Results) -> str:
    """Return where a FUSE peer is faster, or takes less processor time, and if that can change."""
    lines = [["behind a peer in", "io_uring", "best peer", *_TITLES]]
    for name, row in results.rows.items():
        if not row.in_mean:
            continue
        for index, uring in enumerate(("on", "off")):
            compared = [of[index] for of in _COMPARED]
            peer = results.best_peer(name)
            least = None if peer is None else results.ratio(name, peer)
            times = [_ratio(results, name, subject) for subject in compared]
            lines += _if_behind(row.title, uring, least, times)
            cpu = [_cpu(results, name, subject) for subject in compared]
            lines += _if_behind(f"{row.title}, processor time", uring, 1.0, cpu)
    return _markdown(lines)


def _if_behind(
    title: str, uring: str, least: float | None, floors_and_ours: Sequence[float | None]
) -> list[list[str]]:
    ours = floors_and_ours[-1]
    if least is None or ours is None or _is_within(ours, least):
        return []
    shown = map(_shown, (least, *floors_and_ours))
    return [[title, uring, *shown, _verdict(least, *floors_and_ours)]]


def _is_within(ratio: float | None, limit: float) -> bool:
    """Tell whether a ratio is at most `limit`, as the page shows them."""
    return ratio is not None and float(figure(ratio)) <= float(figure(limit))


def _cpu(results: Results, row: str, subject: str) -> float | None:
    """Return how many times the peer that takes least the subject takes of the processor."""
    least, taken = results.least_cpu(row), results.cpu(row, subject)
    return taken / least if least and taken is not None else None


def _verdict(limit: float, *floors_and_ours: float | None) -> str:
    """Tell who can be within `limit`, by the floors, the least union in Python the last, and ours.

    What took much longer than ours shows nothing: it waited for the disk, where ours reads ahead.
    """
    *floors, ours = floors_and_ours
    if ours is None:
        return ""
    floor, python, union = (
        None if least is None or least > _MUCH * ours else least for least in floors
    )
    if floor is not None and floor > limit:
        return "not with FUSE"
    if python is not None and python > limit:
        return "not in Python"
    if union is None:
        return ""
    if union > limit:
        return "not by a union in Python"
    return "hardly" if union * _WHOLE > limit else "yes"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def page_with(page: str, results: Results) -> str:
    """Return the page with the tables of `results`; raises ValueError if it has no marks."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"it has not both {_BEGIN} and {_END}")
    return f"{before}{_BEGIN}\n\n{tables(results)}\n{_END}{after}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=KEPT, help="what a run has left")
    given = parser.parse_args(words)
    try:
        results = from_json(given.run.read_text()).condensed()
        PAGE.write_text(page_with(PAGE.read_text(), results))
    except (OSError, ValueError) as error:
        sys.exit(f"the tables cannot be made of {given.run}: {error}")
    KEPT.write_text(results.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
