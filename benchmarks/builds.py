"""`python -m benchmarks.builds`: builds of Containerfiles, beside docker's and buildah's.

Decided here and only here: what is built, and how it is timed.  All get one small busybox
image and build it in turn, round by round; who begins changes with the round.  Nothing is
cached where a row does not say so.

    true20    20 x RUN true
    copy      COPY of 10,000 files of 200 MB, then 5 RUNs that touch one file each
    cached    a build of 100 steps that are all cached
    last      20 steps, the last of which copies a file that has changed

docker's is the classic builder of a dockerd of its own, buildah's is `bud --layers
--isolation chroot` on kernel overlayfs.  PyUnion alone writes back what it made before it
says that it is done; `pyunion-nosync` does not either.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.stores import DockerStore, PyUnionStore, Store, run, workspace
from benchmarks.subjects import said_by

TOOLS = ("sh", "true", "touch", "echo", "cat")
NAME = "localhost/made:1"
BASE = "localhost/busy:1"
FILES, BYTES = 10_000, 200_000_000


class BuildahStore(Store):
    """buildah over kernel overlayfs."""

    def __init__(self, base: Path) -> None:
        words = ["buildah", "--root", str(base / "buildah"), "--runroot", str(base / "brun")]
        super().__init__(*words, "--storage-driver", "overlay")


class Subject:
    """One builder: `build` makes the image NAME of a context."""

    build_words: Sequence[str] = ("build", "-t", NAME)
    uncached = "--no-cache"

    def __init__(self, store: Store) -> None:
        self.store = store

    def give(self, tar: Path) -> None:
        """Make the image BASE of a root filesystem."""
        self.store.command("import", tar, BASE)

    def build(self, context: Path, *, cached: bool) -> None:
        words = [*self.build_words, *(() if cached else (self.uncached,))]
        self.store.command(*words, context)


class Docker(Subject):
    build_words = ("build", "--network", "none", "-t", NAME)


class Buildah(Subject):
    build_words = ("bud", "--layers", "--isolation", "chroot", "--format", "docker", "-t", NAME)

    def give(self, tar: Path) -> None:
        container = self.store.command("from", "scratch")
        self.store.command("add", container, tar, "/")
        self.store.command("commit", container, BASE)
        self.store.command("rm", container)


MAKERS: dict[str, Callable[[Path], Subject]] = {
    "pyunion": lambda base: Subject(PyUnionStore(base)),
    "pyunion-nosync": lambda base: Subject(PyUnionStore(base, sync=False)),
    "docker": lambda base: Docker(DockerStore(base)),
    "buildah": lambda base: Buildah(BuildahStore(base)),
}


class Given:
    """The contexts, one for each row."""

    def __init__(self, base: Path, *, quick: bool) -> None:
        self.base = base
        self._number = 0
        files, size = (500, 10_000_000) if quick else (FILES, BYTES)
        self.contexts = {
            "true20": self._context("true20", f"FROM {BASE}\n" + "RUN true\n" * 20),
            "copy": self._context(
                "copy",
                f"FROM {BASE}\nCOPY data /data\n"
                + "".join(f"RUN touch /data/d{n}/f{n}\n" for n in range(5)),
            ),
            "cached": self._context(
                "cached",
                f"FROM {BASE}\nCOPY file /file\n"
                + "".join(
                    f"ENV N{n}={n}\n" if n % 3 else f"RUN echo {n} > /f\n" for n in range(99)
                ),
            ),
            "last": self._context(
                "last",
                f"FROM {BASE}\n"
                + "".join(f"RUN echo {n} > /f{n}\n" for n in range(19))
                + "COPY file /file\n",
            ),
        }
        self._fill(self.contexts["copy"] / "data", files, size)

    def _context(self, name: str, text: str) -> Path:
        path = self.base / f"context-{name}"
        path.mkdir()
        (path / "Dockerfile").write_text(text)
        (path / "file").write_text("some")
        return path

    def _fill(self, path: Path, files: int, size: int) -> None:
        chance = random.Random(1)
        path.mkdir()
        for number in range(files):
            folder = path / f"d{number % 100}"
            folder.mkdir(exist_ok=True)
            (folder / f"f{number // 100}").write_bytes(chance.randbytes(size // files))

    def change(self) -> None:
        """Change the file of the row `last`."""
        self._number += 1
        (self.contexts["last"] / "file").write_text(f"changed {self._number}")


ROWS = ("true20", "copy", "cached", "last")
Taken = dict[str, dict[str, list[float]]]


def one_round(name: str, subject: Subject, given: Given, rows: Sequence[str], taken: Taken) -> None:
    """Let one builder do all rows."""
    for row in rows:
        context = given.contexts[row]
        again = row in ("cached", "last")
        if again:
            subject.build(context, cached=True)
        if row == "last":
            given.change()
        os.sync()
        began = time.perf_counter()
        subject.build(context, cached=again)
        taken[row].setdefault(name, []).append(time.perf_counter() - began)


def measure(
    base: Path, given: Given, names: Sequence[str], rows: Sequence[str], rounds: int
) -> Taken:
    """Let the builders work side by side; return what it took them, in seconds."""
    taken: Taken = {row: {} for row in rows}
    with ExitStack() as stack:
        subjects = []
        tar = base / "rootfs.tar"
        make_rootfs_tar(base, tar)
        for name in names:
            try:
                subject = MAKERS[name](base)
            except (OSError, RuntimeError) as error:
                print(f"{name}: left out: {error}", flush=True)
                continue
            stack.callback(subject.store.close)
            subject.give(tar)
            subjects.append((name, subject))
        for number in range(rounds):
            first = number % len(subjects)
            for name, subject in subjects[first:] + subjects[:first]:
                one_round(name, subject, given, rows, taken)
            print(f"round {number + 1} of {rounds} is done", file=sys.stderr, flush=True)
    return taken


def make_rootfs_tar(base: Path, tar: Path) -> None:
    """Pack a small busybox system."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("busybox is not installed")
    root = base / "rootfs"
    for folder in ("bin", "etc", "tmp"):
        (root / folder).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in TOOLS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    run("tar", "-C", root, "-cf", tar, ".")


def table(taken: Taken, names: Sequence[str]) -> str:
    """Return the medians, and how many times those of the first builder they are."""
    lines = ["".join(["          ", *(f"{name:>20}" for name in names)])]
    for row, by_name in taken.items():
        medians = {name: statistics.median(seconds) for name, seconds in by_name.items()}
        own = medians.get(names[0])
        cells = []
        for name in names:
            median = medians.get(name)
            ratio = f" {median / own:5.2f}x" if median is not None and own else ""
            cells.append(f"{'-' if median is None else f'{median:.2f} s{ratio}':>20}")
        lines.append("".join([f"{row:10}", *cells]))
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds of 10 MB")
    parser.add_argument("--rounds", type=int, default=None, help="default 5")
    parser.add_argument("--subjects", default=",".join(MAKERS), help="names, with commas")
    parser.add_argument("--rows", default=",".join(ROWS), help="names, with commas")
    parser.add_argument("--place", type=Path, default=None, help="where the stores are made")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the results")
    chosen = parser.parse_args(words)
    names, rows = chosen.subjects.split(","), chosen.rows.split(",")
    if not set(names) <= set(MAKERS) or not set(rows) <= set(ROWS):
        parser.error("there is no such subject or row")
    rounds = chosen.rounds or (2 if chosen.quick else 5)
    with workspace("builds", chosen.place) as base:
        taken = measure(base, Given(base, quick=chosen.quick), names, rows, rounds)
    print(table(taken, names))
    if chosen.out is not None:
        about = {
            "kernel": platform.release(),
            "docker": said_by("docker", "--version"),
            "buildah": said_by("buildah", "--version"),
        }
        rows_out = {
            row: {
                name: {"median": statistics.median(seconds), "seconds": seconds}
                for name, seconds in by_name.items()
            }
            for row, by_name in taken.items()
        }
        text = json.dumps({"format": 1, "about": about, "rows": rows_out}, indent=1)
        chosen.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
