"""What counts as going through the files of a directory in the order of its listing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import state
from tests.unionfs.core.test_stage_ahead import listed
from unionfs.core.runs import GAP, MOST, Run, Runs

CONTENT = {f"f{number:02}": "x" for number in range(30)}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[CoreDriver]:
    content = {f"dir{number}": dict(CONTENT) for number in range(MOST + 1)}
    with Layers(tmp_path, content).union() as tree:
        yield tree


def use(runs: Runs, tree: CoreDriver, name: bytes) -> Run | None:
    return runs.note(state(tree).table.file(tree.get(name).nodeid))


def count(runs: Runs, tree: CoreDriver, name: bytes) -> int:
    run = use(runs, tree, name)
    assert run is not None
    return run.count


def test_files_in_order_are_counted(tree: CoreDriver) -> None:
    runs, names = Runs(), listed(tree, b"dir0")
    assert [count(runs, tree, name) for name in names[:5]] == [0, 1, 2, 3, 4]
    run = use(runs, tree, names[5])
    assert run is not None
    assert (run.at, run.front, run.listing.names[run.at]) == (5, 5, os.path.basename(names[5]))


def test_the_front_stays_where_the_caller_sets_it_until_it_is_passed(tree: CoreDriver) -> None:
    runs, names = Runs(), listed(tree, b"dir0")
    run = use(runs, tree, names[0])
    assert run is not None
    run.front = 2
    fronts = [run.front for name in names[1:5] if use(runs, tree, name) is run]
    assert fronts == [2, 2, 3, 4]


def test_names_may_be_left_out_but_not_many(tree: CoreDriver) -> None:
    runs, names = Runs(), listed(tree, b"dir0")
    assert count(runs, tree, names[0]) == 0
    assert count(runs, tree, names[GAP]) == 1
    assert count(runs, tree, names[2 * GAP + 1]) == 0


def test_one_used_again_neither_ends_the_run_nor_counts(tree: CoreDriver) -> None:
    runs, names = Runs(), listed(tree, b"dir0")
    counts = [count(runs, tree, name) for name in names[:4] for _ in range(2)]
    assert counts == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_step_back_ends_the_run(tree: CoreDriver) -> None:
    runs, names = Runs(), listed(tree, b"dir0")
    for name in names[:9]:
        use(runs, tree, name)
    assert count(runs, tree, names[7]) == 0


def test_the_next_directory_goes_on_where_one_began_at_its_first_file(tree: CoreDriver) -> None:
    runs = Runs()
    for name in listed(tree, b"dir0")[:6]:
        use(runs, tree, name)
    others = listed(tree, b"dir1")
    assert count(runs, tree, others[0]) == 5
    assert count(runs, tree, listed(tree, b"dir2")[GAP]) == 0


def test_the_order_of_the_sorted_names_counts_too(tree: CoreDriver) -> None:
    runs, names = Runs(), sorted(listed(tree, b"dir0"))
    assert names != listed(tree, b"dir0"), "the listing is sorted by chance"
    counts = [count(runs, tree, name) for name in names]
    # Until then two of them were near each other in the listing, too.
    taken = max(at for at, number in enumerate(counts) if number == 0)
    assert taken < len(names) // 2
    assert counts[taken:] == list(range(len(names) - taken))
    run = use(runs, tree, names[-1])
    assert run is not None
    assert (run.names, run.at) == ([os.path.basename(name) for name in names], len(names) - 1)


def test_the_next_directory_goes_on_in_the_sorted_order(tree: CoreDriver) -> None:
    runs = Runs()
    before = [count(runs, tree, name) for name in sorted(listed(tree, b"dir0"))][-1]
    names = sorted(listed(tree, b"dir1"))
    assert [count(runs, tree, name) for name in names[:3]] == [before, before + 1, before + 2]


def test_one_step_in_the_other_order_counts_for_nothing(tree: CoreDriver) -> None:
    runs, names = Runs(), listed(tree, b"dir0")
    for name in names[:9]:
        use(runs, tree, name)
    in_order = sorted(names)
    at = in_order.index(names[8])
    step = in_order[at + 1 :] or in_order
    assert count(runs, tree, step[0]) == 0


def test_a_file_that_came_after_the_names_were_sorted_begins_a_run(tree: CoreDriver) -> None:
    runs, names = Runs(), sorted(listed(tree, b"dir0"))
    for name in names[:4]:
        use(runs, tree, name)
    tree.create(b"dir0/zz", 0o644)
    assert listed(tree, b"dir0")[-1] == b"dir0/zz"
    assert count(runs, tree, b"dir0/zz") == 0
    assert count(runs, tree, names[10]) == 0


def test_programs_at_work_in_different_directories_have_a_run_each(tree: CoreDriver) -> None:
    runs = Runs()
    places = [listed(tree, b"dir%d" % number) for number in range(MOST)]
    counts = [[count(runs, tree, names[at]) for names in places] for at in range(10, 14)]
    assert counts == [[0] * MOST, [1] * MOST, [2] * MOST, [3] * MOST]
    assert count(runs, tree, listed(tree, b"dir%d" % MOST)[9]) == 0
    assert count(runs, tree, places[0][14]) == 0, "it was the oldest"
    assert count(runs, tree, places[-1][14]) == 4


def test_no_run_where_nobody_has_listed_the_directory(tree: CoreDriver) -> None:
    runs = Runs()
    assert use(runs, tree, b"dir0/f00") is None
    assert state(tree).table.file(tree.get(b"dir0/f00").nodeid).parent not in runs.directories


def test_all_can_be_forgotten(tree: CoreDriver) -> None:
    runs, names = Runs(), listed(tree, b"dir0")
    for name in names[:3]:
        use(runs, tree, name)
    runs.clear()
    run = use(runs, tree, names[3])
    assert run is not None
    assert run.front == run.at == 3


@pytest.mark.parametrize("is_sorted", [False, True])
def test_a_program_goes_on_in_the_directory_where_it_is_expected(
    tree: CoreDriver, is_sorted: bool
) -> None:
    runs = Runs()
    order = sorted if is_sorted else list
    names, after = order(listed(tree, b"dir0")), order(listed(tree, b"dir1"))
    run = [use(runs, tree, name) for name in names[:4]][-1]
    assert run is not None and run.is_sorted == is_sorted
    d = state(tree).table.directory(tree.get(b"dir1").nodeid)
    assert d.listing is not None
    expected = run.expect(d, d.listing)
    runs.expect(expected)
    assert not runs.has_come(d)
    assert list(run.chain()) == [run, expected]
    assert (expected.at, expected.front, expected.count) == (-1, -1, run.count)
    expected.front = 5
    assert use(runs, tree, after[0]) is expected
    assert (expected.at, expected.front) == (0, 5)
    assert expected.was_expected and runs.has_come(d)


def test_a_program_that_comes_in_another_order_was_not_expected(tree: CoreDriver) -> None:
    runs, names = Runs(), listed(tree, b"dir0")
    run = use(runs, tree, names[0])
    assert run is not None
    d = state(tree).table.directory(tree.get(b"dir1").nodeid)
    others = listed(tree, b"dir1")
    assert d.listing is not None
    expected = run.expect(d, d.listing)
    runs.expect(expected)
    come = use(runs, tree, others[GAP + 1])
    assert come is not None and come is not expected
    assert not come.was_expected and come.count == 0
