"""How much work a run does: the three sizes.

Decided here and only here: every number of files, names and bytes.  `full` is
the one to quote; `quick` does the same work on less, to see where one stands;
`tiny` takes a second a subject and only shows that everything works.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The sizes of one run.

    `patience` is the time-out in seconds of each command that is measured;
    `settles` says that dirty pages are written before each mount.
    """

    name: str
    rounds: int
    files: int
    misses: int
    churns: int
    io_mib: int
    execs: int
    dealt_files: int
    dealt_dirs: int
    deepest: int
    many_files: int
    patience: float
    settles: bool = True


FULL = Scale(
    name="full",
    rounds=5,
    files=4000,
    misses=10_000,
    churns=2000,
    io_mib=512,
    execs=200,
    dealt_files=2048,
    dealt_dirs=16,
    deepest=256,
    many_files=100_000,
    patience=180,
)

QUICK = Scale(
    name="quick",
    rounds=2,
    files=400,
    misses=2000,
    churns=300,
    io_mib=32,
    execs=30,
    dealt_files=512,
    dealt_dirs=4,
    deepest=256,
    many_files=10_000,
    patience=60,
)

TINY = Scale(
    name="tiny",
    rounds=1,
    files=40,
    misses=50,
    churns=10,
    io_mib=1,
    execs=3,
    dealt_files=32,
    dealt_dirs=2,
    deepest=8,
    many_files=200,
    patience=30,
    settles=False,
)

SCALES = {scale.name: scale for scale in (FULL, QUICK, TINY)}
