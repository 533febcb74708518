"""`python -m benchmarks`: the command line, and what is written where."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from benchmarks.cell import Wrong
from benchmarks.chart import chart
from benchmarks.demo import DemoError
from benchmarks.isolation import INSIDE, run_isolated
from benchmarks.report import report
from benchmarks.requests import COUNTED, Counted, count_requests, of_rows, shown
from benchmarks.results import Results, from_json
from benchmarks.runner import Runner
from benchmarks.scale import SCALES, Scale
from benchmarks.subjects import BY_NAME, FLOORS, SUBJECTS, said_by, versions
from benchmarks.workloads import WORKLOADS

TOP = Path(__file__).resolve().parent.parent
CACHE = TOP / ".cache"

INTERRUPTED = 130

SERVED = [subject.name for subject in BY_NAME.values() if subject.serves]
COUNTED_SUBJECT = "pyunion-dev"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure PyUnion beside its peers.  As root; leaves nothing mounted.",
    )
    parser.add_argument("--scale", choices=SCALES, default="full", help="how much work (full)")
    parser.add_argument("--quick", action="store_const", const="quick", dest="scale")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of the scale's own")
    parser.add_argument("--only", metavar="WORKLOAD,…", help="these workloads alone")
    parser.add_argument("--subjects", metavar="SUBJECT,…", help="these subjects alone")
    parser.add_argument(
        "--floor",
        action="store_true",
        help="also measure filesystems in C and in Python that do the least; needs cc",
    )
    parser.add_argument("--list", action="store_true", help="name the subjects and workloads")
    parser.add_argument(
        "--requests",
        action="store_true",
        help="count FUSE requests by opcode instead, of pyunion-dev unless --subjects says more",
    )
    parser.add_argument(
        "--rows", action="store_true", help="count those of each row of the benchmark instead"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="write PATH.json and PATH.svg (.cache/benchmark)",
    )
    parser.add_argument(
        "--show",
        type=Path,
        metavar="FILE",
        help="show a JSON; with --out, draw it anew and write its medians alone, as git has them",
    )
    parser.add_argument("--work", type=Path, default=CACHE, help="where layers and mounts lie")
    parser.add_argument(INSIDE, type=Path, help=argparse.SUPPRESS)
    return parser


def _chosen(asked: str, known: Sequence[str], what: str) -> list[str]:
    """Return the names of `asked`, in the order in which they are known."""
    names = asked.split(",")
    if unknown := set(names) - set(known):
        sys.exit(f"no such {what}: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [name for name in known if name in names]


def _choice(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the subjects and workloads asked for.  Exits for one unknown."""
    known, what = list(BY_NAME), "subject"
    subjects = [subject.name for subject in SUBJECTS]
    workloads = [workload.name for workload in WORKLOADS]
    if options.requests:
        known, what = SERVED, "subject with a daemon"
        subjects = [COUNTED_SUBJECT]
        workloads = [counted.name for counted in _counted(options)]
    if options.floor:
        subjects += [subject.name for subject in FLOORS]
    return (
        _chosen(options.subjects or ",".join(subjects), known, what),
        _chosen(options.only or ",".join(workloads), workloads, "workload"),
    )


def _counted(options: argparse.Namespace) -> Sequence[Counted]:
    return of_rows() if options.rows else COUNTED


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def _about(scale: str, rounds: int, load: float) -> dict[str, str]:
    """Say what was measured on what; nothing that names this machine.

    `load` is how many processes wanted to run before, by getloadavg(3).
    """
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    commit = said_by("git", "-C", str(TOP), "describe", "--always", "--dirty", "--abbrev=12")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or "not from git",
        "scale": f"{scale}, {rounds} rounds" if rounds > 1 else scale,
        "machine": f"{len(model)} × {model[0] if model else platform.machine()}",
        "load before": f"{load:.1f}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **versions(),
    }


def _measure(options: argparse.Namespace) -> int:
    """Run inside, as the first process of the namespaces."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    scale = SCALES[options.scale]
    rounds = options.rounds or scale.rounds
    subjects, workloads = _choice(options)
    out = options.out or CACHE / "benchmark"
    if options.requests:
        counted = [counted for counted in _counted(options) if counted.name in workloads]
        return _count(options.inside, scale, subjects, counted, out.with_suffix(".requests.json"))
    runner = Runner(
        options.inside,
        scale,
        [BY_NAME[name] for name in subjects],
        [workload for workload in WORKLOADS if workload.name in workloads],
        _say,
    )
    status, load = 0, os.getloadavg()[0]
    try:
        runner.run(rounds)
    except KeyboardInterrupt:
        _say("interrupted; these are the figures until here")
        status = INTERRUPTED
    except (DemoError, OSError, subprocess.CalledProcessError) as error:
        _say(f"the benchmarks cannot go on: {error}")
        status = 1
    runner.results.about = _about(scale.name, rounds, load)
    _write(runner.results, out)
    return status


def _count(
    work: Path, scale: Scale, subjects: Sequence[str], counted: Sequence[Counted], out: Path
) -> int:
    """Count requests instead of taking time."""
    chosen = [BY_NAME[name] for name in subjects]
    load = os.getloadavg()[0]
    try:
        counts = list(count_requests(work, scale, chosen, counted, _say))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Wrong, DemoError, OSError, subprocess.CalledProcessError) as error:
        _say(f"requests cannot be counted: {error}")
        return 1
    document = {"about": _about(scale.name, 1, load), "counts": [asdict(count) for count in counts]}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(shown(counts))
    _say(f"written: {out}")
    return 0


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _write(results: Results, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(results.to_json())
    out.with_suffix(".svg").write_text(chart(results))
    print(report(results))
    _say(f"written: {out.with_suffix('.json')} and {out.with_suffix('.svg')}")


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    if options.list:
        print("subjects: ", ", ".join(BY_NAME))
        print("workloads:", ", ".join(workload.name for workload in WORKLOADS))
        print("counted:  ", ", ".join(counted.name for counted in COUNTED))
        return 0
    if options.show is not None:
        try:
            results = from_json(options.show.read_text())
        except (OSError, ValueError) as error:
            sys.exit(f"{options.show}: {error}")
        if options.out is not None:
            options.out.with_suffix(".svg").write_text(chart(results))
            options.out.with_suffix(".json").write_text(results.condensed().to_json())
        print(report(results))
        return 0
    _choice(options)
    if os.geteuid() != 0:
        sys.exit("the benchmarks mount and drop caches: run them as root")
    os.umask(0o022)
    if options.inside is not None:
        return _measure(options)
    return run_isolated(arguments, options.work)


if __name__ == "__main__":
    sys.exit(main())
