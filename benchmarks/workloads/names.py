"""Names: what a path costs that no cache knows, for one client and for two.

Each figure is the wall time over all operations of all clients, so with two
clients half of the one-client figure is twice the throughput.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.layers import FILES_A_DIRECTORY, QUARTERS, Stack, source_tree
from benchmarks.scale import Scale
from benchmarks.workload import Row, Step, Workload

_CHURN_CALLS = 5


def _layers(where: Path, scale: Scale) -> Stack:
    return source_tree(where, min(scale.files, 400))


def _misses(cell: Cell, clients: int) -> float:
    count = cell.scale.misses
    took = cell.loop("miss", count, cwd=cell.root / QUARTERS[0], clients=clients)
    return took / (count * clients) * 1e3


def _churn(cell: Cell, clients: int) -> float:
    count = cell.scale.churns
    took = cell.loop("churn", count, cwd=cell.root / QUARTERS[0], clients=clients)
    return took / (count * clients * _CHURN_CALLS) * 1e3


def _reopens(cell: Cell, clients: int) -> float:
    count, where = cell.scale.misses, cell.root / QUARTERS[0] / "package000" / "src"
    _, took = [  # the first time warms up
        cell.loop("reopen", turns, cwd=where, clients=clients)
        for turns in (FILES_A_DIRECTORY, count)
    ]
    return took / (count * clients) * 1e3


def _nothing_is_left(cell: Cell) -> None:
    cell.expect("files in the end", cell.count(cell.root, "-type", "f"), cell.stack.files)


WORKLOADS = (
    Workload(
        name="names",
        prepare=_layers,
        steps=(
            Step(
                Row(
                    name="miss",
                    title="negative lookup, uncached",
                    how="access(2) of names that are in no layer, each once; one client",
                    unit="µs",
                ),
                lambda cell: _misses(cell, 1),
            ),
            Step(
                Row(
                    name="miss-2",
                    title="negative lookup, 2 clients",
                    how="as above, by two clients pinned to a CPU each",
                    unit="µs",
                ),
                lambda cell: _misses(cell, 2),
            ),
            Step(
                Row(
                    name="reopen",
                    title="open, read, close",
                    how="of small files of a lower, whose pages are cached, in turn; one client",
                    unit="µs",
                    in_mean=False,
                ),
                lambda cell: _reopens(cell, 1),
            ),
            Step(
                Row(
                    name="reopen-2",
                    title="open, read, close, 2 clients",
                    how="as above, by two clients pinned to a CPU each, the same files",
                    unit="µs",
                    in_mean=False,
                ),
                lambda cell: _reopens(cell, 2),
            ),
            Step(
                Row(
                    name="churn",
                    title="create … unlink",
                    how="a call of: miss, create, chmod, rename, unlink of a file; one client",
                    unit="µs",
                ),
                lambda cell: _churn(cell, 1),
            ),
            Step(
                Row(
                    name="churn-2",
                    title="create … unlink, 2 clients",
                    how="as above, by two clients pinned to a CPU each, in a directory each",
                    unit="µs",
                ),
                lambda cell: _churn(cell, 2),
                _nothing_is_left,
            ),
        ),
    ),
)
