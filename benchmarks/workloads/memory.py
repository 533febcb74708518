"""Memory: what a daemon holds after its mount, and for each inode the kernel knows."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.layers import Stack, many_files
from benchmarks.scale import Scale
from benchmarks.workload import Row, Step, Workload


def _layers(where: Path, scale: Scale) -> Stack:
    return many_files(where, scale.many_files)


def _after_mount(cell: Cell) -> float:
    cell.run("stat", cell.root / "dir0")
    return cell.memory() / (1 << 20)


def _per_inode(cell: Cell) -> float:
    before = cell.memory()
    inodes = cell.run("find", cell.root, "-printf", "%s\n").count("\n")
    return (cell.memory() - before) / inodes


def _all_files_are_found(cell: Cell) -> None:
    cell.expect("files", cell.count(cell.root, "-type", "f"), cell.stack.files)


WORKLOADS = (
    Workload(
        name="memory",
        prepare=_layers,
        writes=False,
        only_served=True,
        most_rounds=2,
        steps=(
            Step(
                Row(
                    name="rss",
                    title="daemon's memory, mounted",
                    how="resident memory after the mount and one stat",
                    unit="MiB",
                    in_mean=False,
                ),
                _after_mount,
            ),
            Step(
                Row(
                    name="rss-inode",
                    title="daemon's memory an inode",
                    how="what it grew by a find over all files, for each of them",
                    unit="bytes",
                    in_mean=False,
                ),
                _per_inode,
                _all_files_are_found,
            ),
        ),
    ),
)
