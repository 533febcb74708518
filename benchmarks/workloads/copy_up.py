"""Copy-up: what changes a file of a lower, each on a quarter of the tree; and its removal."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.layers import QUARTERS, Stack, source_tree
from benchmarks.scale import Scale
from benchmarks.workload import Row, Step, Workload

TOUCHED, OWNED, APPENDED, REMOVED = QUARTERS
_OWNER = "12345"


def _layers(where: Path, scale: Scale) -> Stack:
    return source_tree(where, scale.files)


def _quarter(cell: Cell) -> int:
    return cell.stack.files // len(QUARTERS)


def _touch(cell: Cell) -> float:
    files = ("find", cell.root / TOUCHED, "-type", "f")
    return cell.timed(*files, "-exec", "touch", "-c", "-d", "@1000000000", "{}", "+")


def _all_are_touched(cell: Cell) -> None:
    old = cell.count(cell.root / TOUCHED, "-type", "f", "!", "-newermt", "@1000000001")
    cell.expect("files touched", old, _quarter(cell))


def _chown(cell: Cell) -> float:
    return cell.timed("chown", "-R", _OWNER, cell.root / OWNED)


def _all_are_owned(cell: Cell) -> None:
    owned = cell.count(cell.root / OWNED, "-type", "f", "-user", _OWNER)
    cell.expect("files of the new owner", owned, _quarter(cell))


def _append(cell: Cell) -> float:
    return cell.loop("append", _quarter(cell), cwd=cell.root, token=APPENDED)


def _all_are_appended(cell: Cell) -> None:
    found = cell.run("grep", "-rlx", "appended", cell.root / APPENDED).count("\n")
    cell.expect("files appended to", found, _quarter(cell))


def _remove(cell: Cell) -> float:
    return cell.timed("rm", "-r", cell.root / REMOVED)


def _it_is_gone(cell: Cell) -> None:
    cell.expect("left of it", cell.count(cell.root, "-maxdepth", "1", "-name", REMOVED), 0)
    cell.expect("files left", cell.count(cell.root, "-type", "f"), 3 * _quarter(cell))


WORKLOADS = (
    Workload(
        name="copy-up",
        prepare=_layers,
        steps=(
            Step(
                Row(
                    name="touch",
                    title="touch of lower files",
                    how="find … -exec touch of a quarter of the tree, fresh mount",
                ),
                _touch,
                _all_are_touched,
                needs_copy_up=True,
            ),
            Step(
                Row(
                    name="chown",
                    title="chown -R of a lower tree",
                    how="of another quarter",
                ),
                _chown,
                _all_are_owned,
                needs_copy_up=True,
            ),
            Step(
                Row(
                    name="append",
                    title="append to lower files",
                    how="open, write of a line and close for each file of the third quarter",
                ),
                _append,
                _all_are_appended,
                needs_copy_up=True,
            ),
            Step(
                Row(
                    name="rm-lower",
                    title="rm -r of a lower tree",
                    how="of the last quarter",
                ),
                _remove,
                _it_is_gone,
                needs_copy_up=True,
            ),
        ),
    ),
)
