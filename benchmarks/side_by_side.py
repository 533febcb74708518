"""Stores side by side: how they take turns, how their commands are timed, and the tables.

Each round every subject does all of its work, one after the other; who begins changes with
the round.  Before each command the disk is written back.  Timed is the command from before
its start to after its end; the seconds of processor time are its own and its daemon's.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.commit import make_change
from benchmarks.stores import REPOSITORY, Store, run
from benchmarks.subjects import said_by
from benchmarks.workloads.chroot import kept_debian

CACHE = REPOSITORY / ".cache"
CMD = ("-c", 'CMD ["x"]')

Given = TypeVar("Given")
Subject = TypeVar("Subject")
Makers = Mapping[str, tuple[Callable[[Path], Store], Callable[[Store, Given, Path], Subject]]]


@dataclass
class Series:
    """What one subject took for one row, round by round."""

    seconds: list[float]
    cpu: list[float]


Taken = dict[str, dict[str, Series]]  # by row and subject


@contextlib.contextmanager
def opened(
    makers: Makers[Given, Subject], name: str, base: Path, given: Given
) -> Iterator[Subject | None]:
    """Open the store of one subject, None if that cannot be."""
    make_store, subject = makers[name]
    scratch = base / f"scratch-{name}"
    scratch.mkdir()
    try:
        store = make_store(base)
    except (OSError, RuntimeError) as error:
        print(f"{name}: left out: {error}", flush=True)
        yield None
        return
    try:
        yield subject(store, given, scratch)
    finally:
        store.close()


def timed(taken: Taken, row: str, name: str, store: Store, action: Callable[[], object]) -> None:
    """Do `action`, and add to `taken` what it took the subject `name`."""
    os.sync()
    used, began = store.cpu(), time.perf_counter()
    action()
    took, cpu = time.perf_counter() - began, store.cpu() - used
    series = taken[row].setdefault(name, Series([], []))
    series.seconds.append(took)
    series.cpu.append(cpu)


def in_turns(
    makers: Makers[Given, Subject],
    base: Path,
    given: Given,
    names: Sequence[str],
    rounds: int,
    work: Callable[[str, Subject, int], None],
) -> None:
    """Let each subject do `work`, given its name and the number of the round, in every round."""
    with contextlib.ExitStack() as stack:
        found = [(name, stack.enter_context(opened(makers, name, base, given))) for name in names]
        subjects = [(name, subject) for name, subject in found if subject is not None]
        for number in range(rounds):
            first = number % len(subjects)
            for name, subject in subjects[first:] + subjects[:first]:
                work(name, subject, number)
            print(f"round {number + 1} of {rounds} is done", file=sys.stderr, flush=True)


def line(label: str, medians: Mapping[str, float], names: Sequence[str]) -> str:
    """Return a line of a table: the medians, and how many times that of the first subject."""
    own = medians.get(names[0])
    cells = []
    for name in names:
        median = medians.get(name)
        ratio = f" {median / own:5.2f}x" if median is not None and own else ""
        cells.append(f"{'-' if median is None else f'{median:.2f} s{ratio}':>20}")
    return "".join([f"{label:10}", *cells])


def table(taken: Taken, names: Sequence[str]) -> str:
    """Return the medians, and how many times those of the first subject they are."""
    lines = ["".join(["          ", *(f"{name:>20}" for name in names)])]
    for row, by_name in taken.items():
        for what, values in (("", "seconds"), ("  cpu", "cpu")):
            medians = {
                name: statistics.median(getattr(series, values)) for name, series in by_name.items()
            }
            lines.append(line(what or row, medians, names))
    return "\n".join(lines)


def as_json(taken: Taken, about: dict[str, object]) -> str:
    """Return what was taken as JSON, with what is to be known `about` it."""
    rows = {
        row: {
            name: {
                "median": statistics.median(series.seconds),
                "cpu_median": statistics.median(series.cpu),
                "seconds": series.seconds,
                "cpu": series.cpu,
            }
            for name, series in by_name.items()
        }
        for row, by_name in taken.items()
    }
    return json.dumps({"format": 1, "about": about, "rows": rows}, indent=1) + "\n"


def fill_up(rootfs: Path, made: Path, size: int) -> None:
    """Copy `rootfs` to `made`, and its /usr beneath /srv until there are `size` bytes."""
    run("cp", "-a", rootfs, made)
    for number in itertools.count(1):
        if int(run("du", "-sB1", made).split()[0]) >= size:
            return
        copy = made / f"srv/copy{number}"
        copy.mkdir(parents=True)
        run("cp", "-a", rootfs / "usr", copy)


class Said(argparse.Namespace):
    """What the command line says."""

    quick: bool
    rounds: int
    megabytes: int
    rootfs: Path | None
    names: list[str]
    place: Path | None
    out: Path

    @classmethod
    def of(
        cls, words: list[str] | None, doc: str | None, names: Sequence[str], out: str, quick: int
    ) -> Said:
        """Parse `words`; with --quick there are `quick` rounds."""
        parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
        parser.add_argument("--quick", action="store_true", help=f"{quick} x 20 MB made up here")
        parser.add_argument("--rounds", type=int, default=0, help="default 5")
        parser.add_argument("--megabytes", type=int, default=600)
        parser.add_argument("--rootfs", type=Path, help="instead of a Debian of its own")
        parser.add_argument("--subjects", dest="names", type=lambda text: text.split(","))
        parser.add_argument("--in", dest="place", type=Path, help="where to work")
        parser.add_argument("--out", type=Path, default=CACHE / out)
        parser.set_defaults(names=list(names))
        said = parser.parse_args(words, cls())
        said.rounds = said.rounds or (quick if said.quick else 5)
        os.environ["PYTHONPATH"] = str(REPOSITORY)
        # Compiled as an installed PyUnion is; else each command would compile all modules.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        return said

    def make_rootfs(self, base: Path) -> Path:
        """Make the root filesystem that all work with."""
        rootfs = base / "rootfs"
        if self.quick:
            rootfs.mkdir()
            make_change(rootfs, 500, 20 << 20)
        else:
            fill_up(self.rootfs or kept_debian(), rootfs, self.megabytes << 20)
        return rootfs

    def report(self, taken: Taken, packages: Mapping[str, str], **about: object) -> None:
        """Print the table, and write the file; `packages` are Debian's, by subject."""
        print(table(taken, self.names), flush=True)
        about |= {
            "rounds": self.rounds,
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "versions": {
                name: said_by("dpkg-query", "-W", "-f", "${Version}", package)
                for name, package in packages.items()
                if name in self.names
            },
        }
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(as_json(taken, about))
