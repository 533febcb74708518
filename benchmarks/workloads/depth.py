"""Depth: the same files and directories dealt out to 2, 64 and 256 layers."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.layers import Stack, dealt
from benchmarks.scale import Scale
from benchmarks.workload import Row, Step, Workload

DEPTHS = (2, 64, 256)


def _first_look(cell: Cell) -> float:
    return cell.timed("ls", cell.root / "dir1")


def _misses(cell: Cell) -> float:
    count = cell.scale.misses // 4
    took = cell.loop("miss", count, cwd=cell.root / "dir0")
    return took / count * 1e3


def _find_warm(cell: Cell) -> float:
    command = ("find", cell.root, "-printf", "%s %T@ %p\n")
    cell.run(*command)
    return cell.timed(*command)


def _all_files_are_found(cell: Cell) -> None:
    cell.expect("files", cell.count(cell.root, "-type", "f"), cell.stack.files)


def _workload(depth: int) -> Workload:
    def layers(where: Path, scale: Scale) -> Stack:
        return dealt(where, min(depth, scale.deepest), scale.dealt_files, scale.dealt_dirs)

    return Workload(
        name=f"layers-{depth}",
        prepare=layers,
        writes=False,
        steps=(
            Step(
                Row(
                    name=f"first-{depth}-layers",
                    title=f"first listing, {depth} layers",
                    how="ls of a directory that all have, on a mount that nobody has looked into",
                    in_mean=False,
                ),
                _first_look,
            ),
            Step(
                Row(
                    name=f"miss-{depth}-layers",
                    title=f"negative lookup, {depth} layers",
                    how="names that are in no layer, each once, in a directory that all have",
                    unit="µs",
                ),
                _misses,
            ),
            Step(
                Row(
                    name=f"find-{depth}-layers",
                    title=f"find, warm, {depth} layers",
                    how="the second find; directories are merged of all layers",
                ),
                _find_warm,
                _all_files_are_found,
            ),
        ),
    )


WORKLOADS = tuple(map(_workload, DEPTHS))
