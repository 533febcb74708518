"""Walks: find and grep over the whole tree, cold and warm, and four greps at once."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.layers import NEEDLE, Stack, needles, source_tree
from benchmarks.scale import Scale
from benchmarks.workload import Row, Step, Workload


def _layers(where: Path, scale: Scale) -> Stack:
    return source_tree(where, scale.files)


def _find(cell: Cell) -> float:
    return cell.timed("find", cell.root, "-printf", "%s %T@ %p\n")


def _find_cold(cell: Cell) -> float:
    cell.drop_caches()
    return _find(cell)


def _all_files_are_found(cell: Cell) -> None:
    cell.expect("files", cell.count(cell.root, "-type", "f"), cell.stack.files)


def _grep_command(cell: Cell) -> list[str | Path]:
    return ["grep", "-r", "-l", NEEDLE, cell.root]


def _grep(cell: Cell) -> float:
    return cell.timed(*_grep_command(cell))


def _grep_cold(cell: Cell) -> float:
    cell.drop_caches()
    return _grep(cell)


def _four_greps(cell: Cell) -> float:
    return cell.timed_together(*[_grep_command(cell)] * 4)


def _all_needles_are_found(cell: Cell) -> None:
    found = cell.run(*_grep_command(cell)).count("\n")
    cell.expect("files with the needle", found, needles(cell.stack.files))


FIND = Workload(
    name="find",
    prepare=_layers,
    writes=False,
    steps=(
        Step(
            Row(
                name="find-cold",
                title="find, cold",
                how="find with size and time of each file; all caches dropped right before",
            ),
            _find_cold,
            _all_files_are_found,
        ),
        Step(Row(name="find-warm", title="find, warm", how="the same again"), _find),
    ),
)

GREP = Workload(
    name="grep",
    prepare=_layers,
    writes=False,
    steps=(
        Step(
            Row(
                name="grep-cold",
                title="grep -r, cold",
                how="grep -r for a word that one file in 40 has; all caches dropped right before",
            ),
            _grep_cold,
            _all_needles_are_found,
        ),
        Step(Row(name="grep-warm", title="grep -r, warm", how="the same again"), _grep),
        Step(
            Row(name="grep-4", title="4 greps at once", how="four of them, warm, until the last"),
            _four_greps,
        ),
    ),
)

WORKLOADS = (FIND, GREP)
