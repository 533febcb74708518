"""The page about the floor says what was measured, and no more."""

from __future__ import annotations

import pytest

from benchmarks.floor_table import KEPT, PAGE, page_with, tables
from benchmarks.report import figure
from benchmarks.results import Results, Series, from_json
from benchmarks.workload import Row


def made(**ratios: float) -> Results:
    """Return results of the row `miss`, with each subject's time in µs."""
    about = {"scale": "by hand", "machine": "none", "kernel": "6", "date": "today"}
    subjects = {name.replace("_", "-"): took for name, took in ratios.items()}
    results = Results(subjects=list(subjects), about=about)
    results.add_row(Row(name="miss", title="a name", how="by hand", unit="µs"))
    for name, took in subjects.items():
        results.series["miss"][name] = Series([took])
    return results


def line(results: Results, title: str, number: int = 0) -> list[str]:
    found = [text for text in tables(results).splitlines() if text.startswith(f"| {title}")]
    return [cell.strip() for cell in found[number].strip("|").split("|")]


def test_row_has_overlayfs_the_floors_ours_and_the_best_peer() -> None:
    results = made(
        overlayfs=2.0,
        native=1.0,
        floor_uring=4.0,
        floor_dev=5.0,
        floor_python_uring=5.0,
        least_union_uring=5.0,
        pyunion_uring=6.0,
        mergerfs=20.0,
    )
    floors = ["2.00", "2.50", "2.50", "", "2.50", ""]
    wanted = ["a name", "2.00 µs", "0.50", *floors, "3.00", "", "10.0", "1.20"]
    assert line(results, "a name") == wanted


@pytest.mark.parametrize(
    ("floor", "python", "union", "answer"),
    [
        (1.0, 1.1, 2.7, "yes"),
        (1.0, 1.1, 2.8, "hardly"),
        (1.0, 1.1, 3.1, "not by a union in Python"),
        (2.9, 3.1, 3.2, "not in Python"),
        (3.1, 3.2, 3.3, "not with FUSE"),
        (9.1, 3.2, 3.3, "not with FUSE"),
        (14.0, 3.2, 3.3, "not in Python"),
        (1.0, 1.1, 14.0, ""),
    ],
)
def test_aim_is_in_reach_if_the_least_union_is_well_within(
    floor: float, python: float, union: float, answer: str
) -> None:
    results = made(
        overlayfs=1.0,
        floor_uring=floor,
        floor_python_uring=python,
        least_union_uring=union,
        pyunion_uring=9.0,
    )
    wanted = ["3.00", *map(figure, (floor, python, union)), "9.00", answer]
    assert line(results, "a name", 1)[-6:] == wanted


def test_nothing_is_said_of_an_aim_without_the_least_union() -> None:
    results = made(overlayfs=1.0, floor_uring=1.0, floor_python_uring=1.1, pyunion_uring=9.0)
    assert line(results, "a name", 1)[-3:] == ["", "9.00", ""]


def test_aim_that_is_held_is_reached() -> None:
    results = made(overlayfs=1.0, native=0.2, floor_uring=3.1, pyunion_uring=3.0)
    assert line(results, "a name", 1)[-1] == "reached"


def test_row_behind_a_peer_is_shown_with_what_is_in_reach() -> None:
    taken = {"overlayfs": 1.0, "floor-uring": 2.0, "mergerfs": 3.0}
    taken |= {"floor-python-uring": 2.2, "least-union-uring": 2.5, "pyunion-uring": 4.0}
    results = made(**{name.replace("-", "_"): took for name, took in taken.items()})
    for name, cpu in (("floor-uring", 2.0), ("least-union-uring", 5.5), ("mergerfs", 4.0)):
        results.series["miss"][name].cpu_ms = [cpu]
    results.series["miss"]["floor-python-uring"].cpu_ms = [5.0]
    results.series["miss"]["pyunion-uring"].cpu_ms = [6.0]
    wanted = ["on", "3.00", "2.00", "2.20", "2.50", "4.00", "yes"]
    assert line(results, "a name", 2)[1:] == wanted
    wanted = ["on", "1.00", "0.50", "1.25", "1.38", "1.50", "not in Python"]
    assert line(results, "a name, processor time")[1:] == wanted


def test_row_level_with_the_best_peer_is_not_behind() -> None:
    results = made(overlayfs=1.0, mergerfs=3.0, pyunion_uring=3.001)
    with pytest.raises(IndexError):
        line(results, "a name", 2)


def test_mean_is_of_all_rows() -> None:
    results = made(overlayfs=1.0, least_union_uring=2.0)
    results.add_row(Row(name="other", title="another", how="by hand"))
    for name, took in (("overlayfs", 1.0), ("least-union-uring", 8.0)):
        results.series["other"][name] = Series([took])
    assert line(results, "geometric mean", 1)[2:6] == ["1.15", "", "", "4.00"]


def test_page_has_the_tables_of_the_kept_run() -> None:
    page = PAGE.read_text()
    assert page == page_with(page, from_json(KEPT.read_text()))


def test_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="it has not both"):
        page_with("# A page\n", made(overlayfs=1.0))
