"""`python -m benchmarks.copy_floor`: what a copy_up takes, and the least that it can take.

The floor is `copy_floor.c`, and the same in Python: programs that copy the files of a directory
up with the fewest system calls that keep what a union promises, and serve nobody.  Beside them
stand unions over the same directory, where `chown -R` has each file copied up.

Decided here and only here: whose processor time counts, which is that of the program, the
daemon and all threads of the kernel meanwhile, since these write to the disk what is synced.
Other work on the machine adds to it, so the least of the rounds is shown.  The wall time is
shown too, but depends on the disk.  Needs root.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.cell import Wrong, opened_cell
from benchmarks.floor import why_not_compiled
from benchmarks.isolation import spread
from benchmarks.layers import Stack, source_tree
from benchmarks.scale import QUICK
from benchmarks.subjects import BY_NAME, Refused, Subject

_HERE = Path(__file__).parent
_CACHE = _HERE.parent / ".cache"
SOURCE = _HERE / "copy_floor.c"
PROGRAM = _CACHE / "copy_floor"

# How many files the floors sync together: what PyUnion does; 1 is what overlayfs does.
TOGETHER = 16
UNIONS = ("overlayfs", "least-union-dev", "pyunion-dev", "fuse-overlayfs", "unionfs-fuse")
_OWNER = "12345"
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of linux/sched.h
_FLAGS_AT = 6  # behind the name in /proc/PID/stat


class Used(NamedTuple):
    """What a run took, in us for each file: wall time, and processor time by who took it."""

    wall: float
    programs: float
    kernel: float


Run = Callable[[], Used]


def kernel_threads_ns() -> dict[str, int]:
    """Return how many ns of processor time each thread of the kernel has taken until now."""
    taken = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            flags = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[_FLAGS_AT]
            if int(flags) & _KERNEL_THREAD:
                taken[entry.name] = int(Path(entry.path, "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return taken


def _kernel_us(before: dict[str, int]) -> float:
    now = kernel_threads_ns()
    return sum(taken - before.get(number, 0) for number, taken in now.items()) / 1e3


def flat_tree(where: Path, files: int) -> Stack:
    """Make one layer of one directory, `all`, with the files of a source tree."""
    made = source_tree(where / "made", files)
    there = where / "0" / "all"
    there.mkdir(parents=True)
    for layer in made.layers:
        for path in sorted((made.where / layer).rglob("*.py")):
            path.rename(there / f"{path.parts[-4]}-{path.name}")
    shutil.rmtree(made.where)
    return Stack(where, ("0",), files)


def of_floor(words: Sequence[str], work: Path, stack: Stack) -> Used:
    """Copy the files up with the program `words`.  Raises `Wrong` if it fails."""
    here = work / f"floor-{secrets.token_hex(4)}"
    upper, staging = here / "upper", here / "work"
    try:
        for directory in (upper, staging):
            directory.mkdir(parents=True)
        os.sync()  # what the last one wrote is not this one's burden
        program, synced = words[:-1], words[-1]
        before = kernel_threads_ns()
        lower = str(stack.where / "0/all")
        argv = [*program, lower, str(upper), str(staging), synced]
        done = subprocess.run(argv, cwd=_HERE.parent, capture_output=True, text=True)
        kernel = _kernel_us(before)
        if done.returncode != 0 or len(os.listdir(upper)) != stack.files:
            raise Wrong(f"{words[0]} did not copy all files: {done.stderr.strip()}")
        wall, cpu = (int(number) / 1e3 for number in done.stdout.split())
        return Used(*(each / stack.files for each in (wall, cpu, kernel)))
    finally:
        shutil.rmtree(here)


def of_union(subject: Subject, work: Path, stack: Stack) -> Used:
    """Let `chown -R` copy the files up in the mounted `subject`.  Raises as `opened_cell`."""
    with opened_cell(work, QUICK, subject, stack) as cell:
        before = kernel_threads_ns()
        wall = cell.timed("chown", "-R", _OWNER, cell.root / "all") * 1e3
        kernel = _kernel_us(before)
        owned = cell.count(cell.root / "all", "-type", "f", "-user", _OWNER)
        cell.expect("files of the new owner", owned, stack.files)
        return Used(*(each / stack.files for each in (wall, cell.cpu_ms * 1e3, kernel)))


def runs(work: Path, stack: Stack) -> dict[str, Run]:
    """Return what is to be measured, each under its title."""
    python = [sys.executable, "-m", "benchmarks.floor_python.copies"]
    made: dict[str, Run] = {}
    for title, synced in (
        ("not synced", 0),
        ("synced one by one", 1),
        (f"{TOGETHER} synced together", TOGETHER),
    ):
        for language, program in (("C", [str(PROGRAM)]), ("Python", python)):
            words = [*program, str(synced)]
            made[f"{language}, {title}"] = lambda words=words: of_floor(words, work, stack)  # type: ignore[misc]
    for name in UNIONS:
        subject = BY_NAME[name]
        made[subject.title] = lambda subject=subject: of_union(subject, work, stack)  # type: ignore[misc]
    return made


def measured(what: dict[str, Run], rounds: int) -> dict[str, list[Used]]:
    """Run all of `what` in turn, `rounds` times; one that fails is left out, and that is said."""
    found: dict[str, list[Used]] = {title: [] for title in what}
    for _ in range(rounds):
        for title in list(found):
            try:
                found[title].append(what[title]())
            except (Refused, Wrong, OSError) as error:
                print(f"{title} is left out: {error}", file=sys.stderr)
                del found[title]
    return found


def table(found: dict[str, list[Used]]) -> str:
    """Return the least processor time of each, and the median of its wall time, as Markdown."""
    head = ("us a copied file", "processor time", "of programs", "of kernel threads", "wall")
    lines = [head, ("---",) * len(head)]
    for title, used in found.items():
        least = min(used, key=lambda each: each.programs + each.kernel)
        numbers = (
            least.programs + least.kernel,
            least.programs,
            least.kernel,
            statistics.median(each.wall for each in used),
        )
        lines.append((title, *(f"{number:.0f}" for number in numbers)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=_CACHE, help="where layers and mounts lie")
    given = parser.parse_args(words)
    if os.geteuid() != 0:
        sys.exit("copies are made, and unions mounted, as root")
    if why := why_not_compiled(PROGRAM, [SOURCE]):
        sys.exit(f"the floor cannot be compiled: {why}")
    given.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="copies-", dir=given.work))
    try:
        spread(work)
        stack = flat_tree(work / "layers", given.files)
        found = measured(runs(work, stack), given.rounds)
    finally:
        shutil.rmtree(work)
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
