"""Mounting: from the command, as a user gives it, to the first answer of the mount."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.cell import Cell, Wrong
from benchmarks.layers import QUARTERS, Stack, source_tree
from benchmarks.scale import Scale
from benchmarks.subjects import ENDS_WITHIN, unmount
from benchmarks.workload import Row, Step, Workload


def _layers(where: Path, scale: Scale) -> Stack:
    return source_tree(where, min(scale.files, 400))


def _to_live(cell: Cell) -> float:
    """Return the ms from the start of the command until a file of a lower was seen."""
    assert cell.subject.command is not None
    argv = cell.subject.command(cell.place, False)
    start = time.perf_counter()
    try:
        cell.run(*argv, cwd=cell.stack.where)
        cell.run("stat", cell.place.merged / QUARTERS[0])
        return (time.perf_counter() - start) * 1e3
    finally:
        unmount(cell.place.merged)
        _reap_daemon()


def _reap_daemon() -> None:
    """Wait for the end of the daemon, which is ours to reap: we are process 1 here."""
    deadline = time.monotonic() + ENDS_WITHIN
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return
    raise Wrong(f"its daemon is still there {ENDS_WITHIN:.0f} s after the unmount")


def _beyond_interpreter(cell: Cell) -> float:
    """Return the same, less the start of an interpreter that does nothing."""
    total = _to_live(cell)
    if not cell.subject.ours:
        return total
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return total - (time.perf_counter() - start) * 1e3


WORKLOADS = (
    Workload(
        name="mount",
        prepare=_layers,
        mounts_itself=True,
        steps=(
            Step(
                Row(
                    name="mount",
                    title="mount, to the first answer",
                    how="the command as users give it and one stat; with Python's start",
                    in_mean=False,
                ),
                _to_live,
            ),
            Step(
                Row(
                    name="mount-beyond",
                    title="mount, beyond Python's start",
                    how="less the time of `python -c pass`, for those who need one",
                    in_mean=False,
                ),
                _beyond_interpreter,
            ),
        ),
    ),
)
