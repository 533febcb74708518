"""`python -m benchmarks.floor`: what a request costs when the filesystem has nothing to do.

`floor.c` is a FUSE filesystem that answers each request at once, from C, and remembers and
stores nothing.  What a call costs there is what the kernel and the change to another process
cost: no filesystem that is asked as often can be faster.  The rows are those of which the cost
is that of the requests alone:

    miss     access(2) of names that are not there
    reopen   open, read and close of a small file, whose pages the kernel has
    churn    a call of: miss, create, chmod, rename, unlink of a file

Each is measured with one client and with two; all subjects take turns, round by round.

Decided here and only here: how the floor is built and mounted.  It needs gcc.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.cell import Cell
from benchmarks.isolation import uring_restored
from benchmarks.layers import Stack
from benchmarks.scale import QUICK
from benchmarks.stores import workspace
from benchmarks.subjects import BY_NAME, Place, Subject, mounted

_SOURCE = Path(__file__).with_name("floor.c")
_FILES = 500
_CHURN_CALLS = 5


class Row(NamedTuple):
    """A loop of `client`; `calls` are the calls of one turn that count."""

    loop: str
    turns: int
    calls: int


ROWS = (Row("miss", 4000, 1), Row("reopen", 4000, 1), Row("churn", 1000, _CHURN_CALLS))


def floors(program: Path) -> list[Subject]:
    """Return the floor without io_uring and with it, and as SCHED_IDLE, as our daemon is."""

    def command(*words: str, idle: bool) -> Callable[[Place, bool], Sequence[str]]:
        before = ["chrt", "--idle", "0"] if idle else []
        return lambda place, foreground: [*before, str(program), str(place.merged), *words]

    return [
        Subject(name="floor-dev", title="C, dev_fuse", command=command(idle=False)),
        Subject(
            name="floor-uring", title="C, io_uring", command=command("uring", idle=True), uring=True
        ),
    ]


def build(where: Path) -> Path:
    """Compile the floor in the directory `where`; raises CalledProcessError and OSError."""
    program = where / "floor"
    subprocess.run(["gcc", "-O2", "-pthread", "-o", program, _SOURCE], check=True)
    return program


def measure(subject: Subject, where: Path, number: int) -> dict[str, float]:
    """Return the µs a call takes, by row, of `subject` mounted in the directory `where`."""
    layer = where / "lower"
    if not layer.exists():
        layer.mkdir()
        for file in range(_FILES):
            (layer / f"f{file}").write_bytes(b"x" * 200)
    base = where / f"{subject.name}-{number}"
    for name in ("upper", "work", "merged"):
        (base / name).mkdir(parents=True)
    stack = Stack(where, ("lower",), _FILES)
    place = Place(stack, base / "upper", base / "work", base / "merged", base / "log")
    found = {}
    with mounted(subject, place) as mount:
        cell = Cell(subject, place, QUICK, mount)
        for row in ROWS:
            for clients in (1, 2):
                _, took = [  # the first time warms up
                    cell.loop(row.loop, turns, cwd=cell.root, clients=clients)
                    for turns in (_FILES, row.turns)
                ]
                calls = row.turns * row.calls * clients
                found[f"{row.loop}-{clients}"] = took / calls * 1e3
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print a table of medians in µs, and write it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--place", type=Path, help="where the files are made")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    given = parser.parse_args(words)
    taken: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with workspace("floor", given.place) as base, uring_restored():
        ours = [BY_NAME[name] for name in ("native", "overlayfs", "pyunion-uring", "pyunion-dev")]
        peers = [BY_NAME[name] for name in ("fuse-overlayfs", "unionfs-fuse", "mergerfs")]
        subjects = [*ours, *floors(build(base)), *peers]
        for number in range(given.rounds):
            first = number % len(subjects)
            for subject in subjects[first:] + subjects[:first]:
                for row, took in measure(subject, base, number).items():
                    taken[row][subject.name].append(took)
    names = [subject.name for subject in subjects]
    print("".join([f"{'µs a call':10}", *(f"{name:>16}" for name in names)]))
    for row, by_name in taken.items():
        cells = [f"{statistics.median(by_name[name]):16.1f}" for name in names]
        print("".join([f"{row:10}", *cells]))
    if given.out is not None:
        about = {"rounds": given.rounds, "kernel": platform.release()}
        given.out.write_text(json.dumps({"format": 1, "about": about, "rows": taken}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
