"""What a failure means: it is recorded with its reason, and stops nobody else.

On plain directories: the mounts are the whole run's, in `test_main`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.cell import Cell, Wrong
from benchmarks.layers import Stack, source_tree
from benchmarks.results import Results
from benchmarks.runner import Runner
from benchmarks.scale import TINY, Scale
from benchmarks.subjects import BY_NAME, Place, Subject
from benchmarks.workload import Row, Step, Workload

NATIVE = BY_NAME["native"]


def refuses(place: Place, foreground: bool) -> list[str]:
    return ["sh", "-c", "echo no such thing here >&2; exit 32"]


REFUSED = Subject(name="mergerfs", title="refused", command=refuses, copies_up=False)


def stack(where: Path, scale: Scale) -> Stack:
    return source_tree(where, scale.files)


def step(
    name: str,
    run: Callable[[Cell], float],
    verify: Callable[[Cell], None] = lambda cell: None,
    needs_copy_up: bool = False,
) -> Step:
    return Step(Row(name=name, title=name, how=name), run, verify, needs_copy_up)


def results_of(tmp_path: Path, *steps: Step, rounds: int = 1, most_rounds: int = 9) -> Results:
    workload = Workload(name="work", prepare=stack, steps=steps, most_rounds=most_rounds)
    runner = Runner(tmp_path, TINY, [NATIVE, REFUSED], [workload], lambda text: None)
    runner.run(rounds)
    assert [path.name for path in tmp_path.iterdir()] == ["layers"]
    return runner.results


def wrong(cell: Cell) -> float:
    raise Wrong("it did nothing")


def finds_nothing(cell: Cell) -> None:
    cell.expect("files", 0, cell.stack.files)


def test_every_round_is_a_value_and_the_tree_is_fresh(tmp_path: Path) -> None:
    def add(cell: Cell) -> float:
        (cell.root / "new").mkdir()  # there already, were it not a fresh one
        return 1.0

    assert results_of(tmp_path, step("add", add), rounds=3).of("add", "native").values == [1.0] * 3


def test_rounds_can_be_fewer_for_a_workload(tmp_path: Path) -> None:
    found = results_of(tmp_path, step("one", lambda cell: 1.0), rounds=3, most_rounds=2)
    assert found.of("one", "native").values == [1.0, 1.0]


def test_failed_step_says_why_and_the_next_goes_on(tmp_path: Path) -> None:
    found = results_of(tmp_path, step("bad", wrong), step("good", lambda cell: 2.0), rounds=2)
    assert found.of("bad", "native").failed == "it did nothing"
    assert found.median("bad", "native") is None
    assert found.median("good", "native") == 2.0


def test_work_that_was_not_done_is_no_figure(tmp_path: Path) -> None:
    found = results_of(tmp_path, step("lazy", lambda cell: 0.001, finds_nothing))
    assert found.of("lazy", "native").failed == "files: 0 instead of 40"


def test_subject_that_cannot_be_mounted_is_failed_with_what_it_said(tmp_path: Path) -> None:
    found = results_of(tmp_path, step("one", lambda cell: 1.0))
    assert found.of("one", "mergerfs").failed == "status 32 from the mount: no such thing here"
    assert found.median("one", "native") == 1.0


def test_what_a_subject_cannot_do_is_not_applicable(tmp_path: Path) -> None:
    found = results_of(tmp_path, step("touch", lambda cell: 1.0, needs_copy_up=True))
    assert found.of("touch", "mergerfs").not_applicable == "it has no copy-on-write"
    assert not found.of("touch", "mergerfs").failed


def test_changed_layers_spoil_all_figures_of_the_workload(tmp_path: Path) -> None:
    def damage(cell: Cell) -> float:
        os.truncate(next(cell.stack.where.glob("1/alpha/*/src/*")), 0)
        return 1.0

    found = results_of(tmp_path, step("damage", damage))
    assert found.of("damage", "native").failed == "some subject changed the lower layers"
