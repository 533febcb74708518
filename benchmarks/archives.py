"""`python -m benchmarks.archives`: images in and out of stores, beside docker, podman and umoci.

Decided here and only here: what each is asked to do, and how it is timed.  All
get one Debian root filesystem, with copies of its /usr up to 600 MB, and give
the same: an image that can be run, a tar of the whole, an archive of the image.

    import   a tar of the root filesystem becomes an image, ready to be run
    export   the root filesystem of a container becomes a tar
    save     the image becomes an archive as docker has it
    load     such an archive becomes an image, ready to be run
    unpack   an OCI layout of gzip layers becomes an image, ready to be run

umoci has no store: its import packs a directory into a layout and leaves nothing
that could be run, its export is an unpacking and a tar of that, and what it
unpacks is a directory.  It reads and writes no docker archives, docker 20.10 no
layouts.

Each round every subject does all of it, one after the other, and removes what it
made; who begins changes with the round.  Before each command the disk is written
back.  Timed is the command from before its start to after its end; the seconds of
processor time are its own and its daemon's.  PyUnion alone writes back what it
made before it says that it is done; `pyunion-nosync` does not either.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import shutil
import statistics
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commit import make_change
from benchmarks.stores import (
    REPOSITORY,
    DockerStore,
    PodmanStore,
    PyUnionStore,
    Store,
    run,
    workspace,
)
from benchmarks.subjects import said_by
from benchmarks.workloads.chroot import kept_debian

ROWS = ("import", "export", "save", "load", "unpack")
CACHE = REPOSITORY / ".cache"
CMD = ("-c", 'CMD ["x"]')


@dataclass(frozen=True)
class Given:
    """What all subjects work with: a directory, its tar, and the image of it in two forms."""

    rootfs: Path
    tar: Path
    archive: Path
    layout: Path
    regular: int  # files

    @classmethod
    def make(cls, base: Path, rootfs: Path) -> Given:
        given = cls(
            rootfs, base / "rootfs.tar", base / "image.tar", base / "layout", _count(rootfs)
        )
        run("tar", "-C", rootfs, "--numeric-owner", "-cf", given.tar, ".")
        maker = PyUnionStore(base / "maker")
        maker.command("import", *CMD, given.tar, "box:1")
        maker.command("save", "-o", given.archive, "box:1")
        shutil.rmtree(maker.root)
        run(
            *("skopeo", "--insecure-policy", "copy", "-q"),
            *(f"docker-archive:{given.archive}", f"oci:{given.layout}:1"),
        )
        return given


def _count(folder: Path) -> int:
    """Return how many files there are, links to directories among them."""
    links = (
        os.path.islink(os.path.join(path, name))
        for path, directories, _ in os.walk(folder)
        for name in directories
    )
    return sum(len(files) for _, _, files in os.walk(folder)) + sum(links)


# -- subjects --


class Subject:
    """One store, and what it does for each row; None if it cannot."""

    def __init__(self, store: Store, given: Given, scratch: Path) -> None:
        self.store = store
        self.given = given
        self.flat = scratch / "flat.tar"
        self.saved = scratch / "saved.tar"

    def actions(self) -> dict[str, Callable[[], object]]:
        """Return what to do, row by row, in an order in which it can be done."""
        command, given = self.store.command, self.given
        return {
            "import": lambda: command("import", *CMD, given.tar, "box:1"),
            "export": lambda: command("export", "-o", self.flat, "box"),
            "save": lambda: command("save", "-o", self.saved, "box:1"),
            "load": lambda: command("load", "-q", "-i", given.archive),
            "unpack": lambda: command("load", "-q", "-i", given.layout),
        }

    def ready(self, row: str) -> None:
        """Prepare what `row` needs."""
        if row == "export":
            self.store.command("create", "--name", "box", "box:1")

    def clear(self, row: str) -> None:
        """Remove what `row` made, once nothing needs it."""
        if row == "export":
            self.flat.unlink()
            self.store.command("rm", "box")
        elif row != "import":
            self.saved.unlink(missing_ok=True)
            self.remove_images()

    def remove_images(self) -> None:
        self.store.command("rmi", *self.store.command("images", "-q").split())


class Docker(Subject):
    def actions(self) -> dict[str, Callable[[], object]]:
        found = super().actions()
        del found["unpack"]
        return found


class Podman(Subject):
    def actions(self) -> dict[str, Callable[[], object]]:
        command, given = self.store.command, self.given
        return super().actions() | {
            "import": lambda: command("import", "-q", *CMD, given.tar, "box:1"),
            "save": lambda: command(
                "save", "-q", "--format", "docker-archive", "-o", self.saved, "box:1"
            ),
            "unpack": lambda: command("pull", "-q", f"oci:{given.layout}:1"),
        }

    def ready(self, row: str) -> None:
        if row == "export":
            self.store.command("create", "--network", "none", "--name", "box", "box:1")


class Umoci(Subject):
    def __init__(self, store: Store, given: Given, scratch: Path) -> None:
        super().__init__(store, given, scratch)
        self.layout = scratch / "umoci"
        self.tree = scratch / "tree"

    def actions(self) -> dict[str, Callable[[], object]]:
        return {
            "import": self._import,
            "export": self._export,
            "unpack": lambda: self._unpack(self.given.layout),
        }

    def _import(self) -> None:
        command = self.store.command
        command("init", "--layout", self.layout)
        command("new", "--image", f"{self.layout}:1")
        command("insert", "--image", f"{self.layout}:1", self.given.rootfs, "/")

    def _export(self) -> None:
        self._unpack(self.layout)
        run("tar", "-C", self.tree, "--numeric-owner", "-cf", self.flat, ".")

    def _unpack(self, layout: Path) -> None:
        self.store.command("raw", "unpack", "--image", f"{layout}:1", self.tree)

    def ready(self, row: str) -> None:
        """It needs nothing."""

    def clear(self, row: str) -> None:
        if row != "import":
            shutil.rmtree(self.tree)
        if row == "export":
            shutil.rmtree(self.layout)
            self.flat.unlink()


MAKERS: dict[str, tuple[Callable[[Path], Store], type[Subject]]] = {
    "pyunion": (PyUnionStore, Subject),
    "pyunion-nosync": (lambda base: PyUnionStore(base, sync=False), Subject),
    "docker": (DockerStore, Docker),
    "podman": (PodmanStore, Podman),
    "umoci": (lambda base: Store("umoci"), Umoci),
}
PACKAGES = {"docker": "docker.io", "podman": "podman", "umoci": "umoci"}


@contextlib.contextmanager
def opened(name: str, base: Path, given: Given) -> Iterator[Subject | None]:
    make_store, subject = MAKERS[name]
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


# -- timing --


@dataclass
class Series:
    """What one subject took for one row, round by round."""

    seconds: list[float]
    cpu: list[float]


Taken = dict[str, dict[str, Series]]  # by row and subject


def one_round(name: str, subject: Subject, taken: Taken, *, check: bool) -> None:
    """Let one subject do all it can, and remove what it made."""
    for row, action in subject.actions().items():
        subject.ready(row)
        os.sync()
        used, began = subject.store.cpu(), time.perf_counter()
        action()
        took, cpu = time.perf_counter() - began, subject.store.cpu() - used
        series = taken[row].setdefault(name, Series([], []))
        series.seconds.append(took)
        series.cpu.append(cpu)
        if check and row == "export":
            check_flat(name, subject)
        subject.clear(row)


def check_flat(name: str, subject: Subject) -> None:
    """Raise RuntimeError unless the exported tar holds every file that there was."""
    with tarfile.open(subject.flat) as archive:
        found = sum(not member.isdir() for member in archive)
    # A container's own /etc/hosts, /dev/console and the like may come along.
    if not subject.given.regular <= found <= subject.given.regular + 10:
        raise RuntimeError(f"{name} exported {found} files of {subject.given.regular}")


def measure(base: Path, given: Given, names: list[str], rounds: int) -> Taken:
    """Let the subjects work side by side; return what it took them."""
    taken: Taken = {row: {} for row in ROWS}
    with contextlib.ExitStack() as stack:
        found = [(name, stack.enter_context(opened(name, base, given))) for name in names]
        subjects = [(name, subject) for name, subject in found if subject is not None]
        for number in range(rounds):
            first = number % len(subjects)
            for name, subject in subjects[first:] + subjects[:first]:
                one_round(name, subject, taken, check=number == 0)
            print(f"round {number + 1} of {rounds} is done", file=sys.stderr, flush=True)
    return taken


# -- what is said of it --


def table(taken: Taken, names: list[str]) -> str:
    """Return the medians, and how many times those of the first subject they are."""
    lines = ["".join(["          ", *(f"{name:>20}" for name in names)])]
    for row, by_name in taken.items():
        for what, values in (("", "seconds"), ("  cpu", "cpu")):
            medians = {
                name: statistics.median(getattr(series, values)) for name, series in by_name.items()
            }
            own = medians.get(names[0])
            cells = []
            for name in names:
                median = medians.get(name)
                ratio = f" {median / own:5.2f}x" if median is not None and own else ""
                cells.append(f"{'-' if median is None else f'{median:.2f} s{ratio}':>20}")
            lines.append("".join([f"{what or row:10}", *cells]))
    return "\n".join(lines)


def as_json(taken: Taken, about: dict[str, object]) -> str:
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


def main(words: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds of 20 MB made up here")
    parser.add_argument("--rounds", type=int, default=None, help="default 5")
    parser.add_argument("--megabytes", type=int, default=600)
    parser.add_argument("--rootfs", type=Path, default=None, help="instead of a Debian of its own")
    parser.add_argument("--subjects", default=",".join(MAKERS))
    parser.add_argument("--in", dest="place", type=Path, default=None, help="where to work")
    parser.add_argument("--out", type=Path, default=CACHE / "archives.json")
    said = parser.parse_args(words)
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    names = said.subjects.split(",")
    rounds = said.rounds or (2 if said.quick else 5)
    with workspace("archives-", said.place) as base:
        rootfs = base / "rootfs"
        if said.quick:
            rootfs.mkdir()
            make_change(rootfs, 500, 20 << 20)
        else:
            fill_up(said.rootfs or kept_debian(), rootfs, said.megabytes << 20)
        given = Given.make(base, rootfs)
        taken = measure(base, given, names, rounds)
        about: dict[str, object] = {
            "bytes": given.tar.stat().st_size,
            "files": given.regular,
            "rounds": rounds,
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "versions": {
                name: said_by("dpkg-query", "-W", "-f", "${Version}", package)
                for name, package in PACKAGES.items()
                if name in names
            },
            "syncs": [name for name in names if name == "pyunion"],
        }
        print(table(taken, names), flush=True)
        said.out.parent.mkdir(parents=True, exist_ok=True)
        said.out.write_text(as_json(taken, about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
