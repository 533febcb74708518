"""Archives: a tree read by tar, and one extracted into the upper and removed again."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.layers import Stack, source_tree
from benchmarks.scale import Scale
from benchmarks.workload import Row, Step, Workload

ARCHIVE = "tree.tar"


def archived_tree(where: Path, scale: Scale) -> Stack:
    """Make the layers of a source tree, and an archive of it beside them."""
    stack = source_tree(where, scale.files)
    subprocess.run(["tar", "-cf", where / ARCHIVE, "-C", stack.plain_copy(), "."], check=True)
    return stack


def _read(cell: Cell) -> float:
    # Written to /dev/null itself, GNU tar would read no file.
    cell.warm_layers()
    return cell.timed("sh", "-c", 'tar -cf - -C "$0" . | cat >/dev/null', cell.root)


def _all_is_in_it(cell: Cell) -> None:
    size = cell.run("sh", "-c", 'tar -cf - -C "$0" . | tar -tf - | grep -vc "/$"', cell.root)
    cell.expect("files in the archive", int(size), cell.stack.files)


def _extract(cell: Cell) -> float:
    new = cell.root / "new"
    cell.run("mkdir", new)
    return cell.timed("tar", "-xf", cell.stack.where / ARCHIVE, "-C", new)


def _all_is_extracted(cell: Cell) -> None:
    cell.run("diff", "-r", cell.stack.plain_copy(), cell.root / "new")


def _remove(cell: Cell) -> float:
    return cell.timed("rm", "-r", cell.root / "new")


def _it_is_gone(cell: Cell) -> None:
    cell.expect("files left", cell.count(cell.root, "-name", "new"), 0)


WORKLOADS = (
    Workload(
        name="tar-read",
        prepare=archived_tree,
        writes=False,
        steps=(
            Step(
                Row(
                    name="tar-read",
                    title="tar, reading",
                    how="tar -c of the whole tree on a fresh mount, layers in the page cache",
                ),
                _read,
                _all_is_in_it,
            ),
        ),
    ),
    Workload(
        name="tar-extract",
        prepare=archived_tree,
        steps=(
            Step(
                Row(
                    name="tar-extract",
                    title="tar, extracting",
                    how="tar -x of the tree into a new directory, so the upper; no sync",
                ),
                _extract,
                _all_is_extracted,
            ),
            Step(
                Row(
                    name="rm-upper",
                    title="rm -r in the upper",
                    how="rm -r of what was extracted",
                ),
                _remove,
                _it_is_gone,
            ),
        ),
    ),
)
