"""The workloads say what they are, each by a name of its own."""

from __future__ import annotations

from benchmarks.requests import COUNTED
from benchmarks.workloads import WORKLOADS

ROWS = [step.row for workload in WORKLOADS for step in workload.steps]


def test_names_are_unique() -> None:
    for named in (WORKLOADS, ROWS, COUNTED):
        names = [one.name for one in named]
        assert len(names) == len(set(names))


def test_titles_are_unique_and_fit_the_chart() -> None:
    titles = [row.title for row in ROWS]
    assert len(titles) == len(set(titles))
    assert max(map(len, titles)) <= 32


def test_every_row_says_how_it_is_measured() -> None:
    assert all(row.how for row in ROWS)


def test_mounting_memory_and_single_calls_are_not_in_the_mean() -> None:
    apart = {row.name for row in ROWS if not row.in_mean}
    first = {f"first-{depth}-layers" for depth in (2, 64, 256)}
    assert apart == {"reopen", "reopen-2", "mount", "mount-beyond", "rss", "rss-inode", *first}
