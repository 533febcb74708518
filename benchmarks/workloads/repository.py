"""A working day: git over a source tree that lies in the lowers."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.layers import Stack, source_tree
from benchmarks.scale import Scale
from benchmarks.workload import Row, Step, Workload


def _layers(where: Path, scale: Scale) -> Stack:
    return source_tree(where, scale.files // 2)


def _add_commit_status(cell: Cell) -> float:
    # A disk's flush, which takes what it takes, would hide all the rest.
    git = ("git", "-c", "gc.auto=0", "-c", "core.fsync=none")
    cell.run(*git, "init", "-q", cell.root)
    return sum(
        cell.timed(*git, *words, cwd=cell.root)
        for words in (("add", "-A"), ("commit", "-q", "-m", "all"), ("status", "--short"))
    )


def _all_is_committed(cell: Cell) -> None:
    committed = cell.run("git", "ls-tree", "-r", "--name-only", "HEAD", cwd=cell.root)
    cell.expect("files committed", committed.count("\n"), cell.stack.files)
    cell.expect("status", cell.run("git", "status", "--short", cwd=cell.root), "")


WORKLOADS = (
    Workload(
        name="git",
        prepare=_layers,
        steps=(
            Step(
                Row(
                    name="git",
                    title="git add, commit, status",
                    how="of half as many files as the other trees have, after git init; no fsync",
                ),
                _add_commit_status,
                _all_is_committed,
            ),
        ),
    ),
)
