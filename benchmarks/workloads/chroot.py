"""A real Debian: programs started in a chroot, and every file of its packages checked.

The root filesystem is the demo's, made by mmdebstrap and kept in `.cache`.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from benchmarks import demo
from benchmarks.cell import Cell
from benchmarks.layers import Stack, root_filesystem
from benchmarks.scale import Scale
from benchmarks.workload import Row, Step, Workload

_EXEC_LOOP = 'i=0; while [ $i -lt "$0" ]; do /usr/bin/env true || exit; i=$((i+1)); done'
_IN = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C")


def kept_debian() -> Path:
    """Return the demo's Debian root filesystem, made now where it is not there."""
    with contextlib.redirect_stdout(sys.stderr), demo.workspace():
        return demo.debian_rootfs()


def _layers(where: Path, scale: Scale) -> Stack:
    return root_filesystem(where, kept_debian())


def _exec(cell: Cell) -> float:
    count = str(cell.scale.execs)
    took = cell.timed("chroot", cell.root, *_IN, "sh", "-c", _EXEC_LOOP, count)
    return took / cell.scale.execs


def _verify_packages(cell: Cell) -> float:
    return cell.timed("chroot", cell.root, *_IN, "dpkg", "--verify", good=(0, 1))


def _as_in_the_layer(cell: Cell) -> None:
    check = [*_IN, "dpkg", "--verify"]
    wanted = cell.run("chroot", cell.stack.plain_copy(), *check, good=(0, 1))
    cell.expect("dpkg --verify", cell.run("chroot", cell.root, *check, good=(0, 1)), wanted)


WORKLOADS = (
    Workload(
        name="chroot",
        prepare=_layers,
        writes=False,
        steps=(
            Step(
                Row(
                    name="exec",
                    title="exec in a chroot",
                    how="one of many runs of `env true` by a shell in a chroot on Debian",
                ),
                _exec,
            ),
            Step(
                Row(
                    name="dpkg-verify",
                    title="dpkg --verify in a chroot",
                    how="reads and checks all files of all packages there",
                ),
                _verify_packages,
                _as_in_the_layer,
            ),
        ),
    ),
)
