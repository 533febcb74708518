"""What a workload is: layers, and steps that are measured on a mount of them.

Decided here and only here: the terms in which the workloads are written.

    workload   a Stack of layers, mounted afresh for each subject and each round
    step       one figure: `run` does the work and returns it, `verify` checks,
               in the first round, that the work was done
    row        what the figure is: its name, unit and what exactly was measured
    cell       one workload, subject and round: the mount that the steps run on
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.layers import Stack
from benchmarks.scale import Scale


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure; less is better in every one.

    `in_mean` is false for what is no work, the mount itself and memory, and for single calls
    of which other rows consist.
    """

    name: str
    title: str
    how: str
    unit: str = "ms"
    in_mean: bool = True


def _unverified(cell: Cell) -> None:
    """`run` itself has looked at the result."""


@dataclass(frozen=True)
class Step:
    row: Row
    run: Callable[[Cell], float]
    verify: Callable[[Cell], None] = _unverified
    needs_copy_up: bool = False


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Steps that share a mount and run one after the other.

    `prepare` makes the layers, once a run, in a directory of its own.  `writes`
    says whether the tree is changed, `mounts_itself` that mounting is what is
    measured, `only_served` that only a daemon has the figure.
    """

    name: str
    prepare: Callable[[Path, Scale], Stack]
    steps: tuple[Step, ...]
    writes: bool = True
    mounts_itself: bool = False
    only_served: bool = False
    most_rounds: int = 100
