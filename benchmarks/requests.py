"""`--requests`: how many requests an operation costs, by opcode.

Decided here and only here: what is counted on, which is some operations or each row of the
benchmark.  A count does not depend on the machine nor on what else it does, so one round is
enough, and a regression shows at once.  No time is taken.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import demo
from benchmarks.apt_chroot import in_chroot, site_layer
from benchmarks.cell import Cell, Wrong, opened_cell
from benchmarks.layers import NEEDLE, Stack, source_tree
from benchmarks.report import figure, table
from benchmarks.scale import Scale
from benchmarks.subjects import BY_NAME, Refused, Subject
from benchmarks.tracing import Tracer, tracer
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.archives import ARCHIVE, archived_tree
from benchmarks.workloads.chroot import kept_debian

Say = Callable[[str], None]
Act = Callable[[Cell], object]

_MODULES = "argparse, asyncio, csv, email.message, json, logging, sqlite3, unittest"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Some actions on one mount, one after the other, each counted.

    `before` is not counted.  `per_file` tells to divide by the number of files.
    """

    name: str
    prepare: Callable[[Path, Scale], Stack]
    actions: tuple[tuple[str, Act], ...]
    before: Act = lambda cell: None
    per_file: bool = False


@dataclass(frozen=True)
class Count:
    """What one action cost one subject: requests by opcode, and the same for each file or run."""

    subject: str
    action: str
    unit: str
    total: int
    by_opcode: dict[str, float]


def count_requests(
    work: Path, scale: Scale, subjects: Sequence[Subject], what: Sequence[Counted], say: Say
) -> Iterator[Count]:
    """Count every action of `what` for every subject.  Raises `Wrong` without tracepoints."""
    with tracer() as trace:
        for counted in what:
            where = work / "layers" / counted.name
            where.mkdir(parents=True)
            stack = counted.prepare(where, scale)
            for subject in subjects:
                if why := subject.why_not():
                    say(f"{subject.title} is left out: {why}")
                    continue
                say(f"requests of {counted.name}, {subject.title}")
                try:
                    with opened_cell(work, scale, subject, stack) as cell:
                        yield from _count(trace, counted, cell)
                except (Wrong, Refused, demo.DemoError) as error:
                    say(f"{subject.title} failed {counted.name}: {error}")


def _count(trace: Tracer, counted: Counted, cell: Cell) -> Iterator[Count]:
    counted.before(cell)
    for action, act in counted.actions:
        with trace.counting(cell.root) as requests:
            act(cell)
        divisor = cell.stack.files if counted.per_file else 1
        by_opcode = {
            opcode: number / divisor for opcode, number in requests.by_opcode.most_common()
        }
        unit = "file" if counted.per_file else "run"
        total = requests.by_opcode.total()
        yield Count(cell.subject.name, action, unit, total, by_opcode)


def shown(counts: Sequence[Count]) -> str:
    """Return the counts as a table, the most frequent opcode first."""
    lines = [["", "subject", "in all", "each", "of", "by opcode"]]
    for count in sorted(counts, key=lambda count: [c.action for c in counts].index(count.action)):
        title = BY_NAME[count.subject].title
        each = sum(count.by_opcode.values())
        opcodes = "  ".join(f"{name} {figure(number)}" for name, number in count.by_opcode.items())
        lines.append([count.action, title, str(count.total), figure(each), count.unit, opcodes])
    return table(lines, left=(0, 1, 4, 5)) + "\n"


# -- what is counted on --


def _tree(where: Path, scale: Scale) -> Stack:
    return source_tree(where, scale.files)


def _extract(cell: Cell) -> None:
    cell.run("tar", "-xf", cell.stack.where / ARCHIVE, "-C", cell.root / "new")


def _find(cell: Cell) -> None:
    cell.run("find", cell.root, "-printf", "%s %T@ %p\n")


def _grep(cell: Cell) -> None:
    cell.run("grep", "-r", "-l", NEEDLE, cell.root)


def _commit_all(cell: Cell) -> None:
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        cell.run("git", "-c", "gc.auto=0", *words, cwd=cell.root)


def _status(cell: Cell) -> None:
    cell.run("git", "status", "--short", cwd=cell.root)


def _debian(where: Path, scale: Scale) -> Stack:
    site_layer(where / "0")
    return Stack(where, ("0", str(kept_debian())), 0)


def _update(cell: Cell) -> None:
    in_chroot(cell.root, "apt-get", "update")


def _install(cell: Cell) -> None:
    in_chroot(cell.root, "apt-get", "install", "-y", demo.PACKAGE)


def _python(where: Path, scale: Scale) -> Stack:
    """Make a layer of this interpreter's standard library, and an empty one on it."""
    (where / "0").mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    there = where / "1" / "lib" / library.name
    unneeded = shutil.ignore_patterns("test", "dist-packages", "site-packages", "config-*")
    shutil.copytree(library, there, symlinks=True, ignore=unneeded)
    compiled = (sys.executable, "-m", "compileall", "-q", there)
    subprocess.run(compiled, stdout=subprocess.DEVNULL, check=False)
    return Stack(where, ("0", "1"), 0)


def _start_python(cell: Cell) -> None:
    interpreter = Path(sys.executable).resolve()
    code = f"import {_MODULES}"
    cell.run("env", f"PYTHONHOME={cell.root}", interpreter, "-S", "-B", "-c", code)


def of_rows() -> Sequence[Counted]:
    """Return what counts the requests of each row that is measured on a mount."""
    return [
        Counted(
            name=workload.name,
            prepare=workload.prepare,
            actions=tuple((step.row.title, step.run) for step in workload.steps),
        )
        for workload in WORKLOADS
        if not workload.mounts_itself
    ]


COUNTED = (
    Counted(
        name="tar-extract",
        prepare=archived_tree,
        before=lambda cell: cell.run("mkdir", cell.root / "new"),
        actions=(("tar extract", _extract),),
        per_file=True,
    ),
    Counted(
        name="find",
        prepare=_tree,
        actions=(("find, first", _find), ("find, again", _find)),
        per_file=True,
    ),
    Counted(
        name="grep",
        prepare=_tree,
        actions=(("grep -r, first", _grep), ("grep -r, again", _grep)),
        per_file=True,
    ),
    Counted(
        name="git-status",
        prepare=_tree,
        before=_commit_all,
        actions=(("git status, first", _status), ("git status, again", _status)),
        per_file=True,
    ),
    Counted(
        name="apt-get",
        prepare=_debian,
        before=_update,
        actions=((f"apt-get install {demo.PACKAGE}", _install),),
    ),
    Counted(
        name="python",
        prepare=_python,
        actions=(("python start, first", _start_python), ("python start, again", _start_python)),
    ),
)
