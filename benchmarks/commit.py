"""`python -m benchmarks.commit`: what a commit costs, and how long it keeps others waiting.

Decided here and only here: what is committed and how it is timed.  A container
over a small image gets the same change from every subject: 11,000 files of 600 MB
by default.  Timed is the `commit` command, from before its start to after its
end, on a container that nobody else uses; the cache holds the change, since it was
just written.  The pause is what PyUnion's mount itself writes down, for a container
that is mounted; it is taken for 10 files and for 20,000 files as well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.stores import REPOSITORY, DockerStore, PodmanStore, PyUnionStore, run, workspace

SUBJECTS = ("pyunion", "docker", "podman")
FAN_OUT = 100  # files in a directory

Timed = tuple[float, float | None]  # seconds of the command, and of the pause where it is known


def make_change(folder: Path, files: int, size: int) -> None:
    """Make `files` files of `size` bytes together, no two alike."""
    chance = random.Random(1)
    weights = [chance.lognormvariate(0, 1.5) for _ in range(files)]
    unit = size / sum(weights)
    for number, weight in enumerate(weights):
        inside = folder / f"d{number // FAN_OUT:04}"
        inside.mkdir(exist_ok=True)
        (inside / f"f{number:06}").write_bytes(chance.randbytes(int(weight * unit)))


def make_base(folder: Path) -> None:
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/hostname").write_text("base\n")


class PyUnion(PyUnionStore):
    """Ours: the change is copied into the mounted container."""

    def __init__(self, base: Path, image: Path) -> None:
        super().__init__(base)
        self.point = base / "point"
        self.point.mkdir(exist_ok=True)
        self.command("import", "-c", 'CMD ["x"]', image, "base:1")

    def commit(self, change: Path, *, mounted: bool) -> Timed:
        name = f"c{time.monotonic_ns()}"
        identity = self.command("create", "--name", name, "base:1")
        self.command("mount", name, str(self.point))
        try:
            run("cp", "-a", change, self.point / "change")
            if not mounted:
                self.command("umount", name)
            began = time.monotonic()
            self.command("commit", name, f"{name}:1")
            took = time.monotonic() - began
            pause = self._pause(identity) if mounted else None
        finally:
            if mounted:
                self.command("umount", name)
        self.command("rm", name)
        self.command("rmi", f"{name}:1")
        return took, pause

    def _pause(self, identity: str) -> float:
        log = (self.root / "containers" / identity / "mount.log").read_text()
        return float(re.findall(r"requests waited ([\d.]+) ms", log)[-1]) / 1000


class Docker(DockerStore):
    """dockerd, the change put in by `docker cp`."""

    def __init__(self, base: Path, image: Path) -> None:
        super().__init__(base)
        archive = base / "base.tar"
        run("tar", "-C", image, "-cf", archive, ".")
        self.command("import", "-c", 'CMD ["x"]', archive, "base:1")

    def commit(self, change: Path, *, mounted: bool) -> Timed:
        identity = self.command("create", "--network", "none", "base:1")
        self.command("cp", f"{change}/.", f"{identity}:/change")
        began = time.monotonic()
        self.command("commit", identity, "made:1")
        took = time.monotonic() - began
        self.command("rm", identity)
        self.command("rmi", "made:1")
        return took, None


class Podman(PodmanStore):
    """podman over kernel overlayfs, the change copied into the mounted container."""

    def __init__(self, base: Path, image: Path) -> None:
        super().__init__(base)
        archive = base / "base-podman.tar"
        run("tar", "-C", image, "-cf", archive, ".")
        self.command("import", "-c", 'CMD ["x"]', archive, "base:1")

    def commit(self, change: Path, *, mounted: bool) -> Timed:
        identity = self.command("create", "--network", "none", "base:1")
        point = self.command("mount", identity)
        run("cp", "-a", change, Path(point) / "change")
        self.command("umount", identity)
        began = time.monotonic()
        self.command("commit", "-q", identity, "made:1")
        took = time.monotonic() - began
        self.command("rm", identity)
        self.command("rmi", "made:1")
        return took, None


Subject = PyUnion | Docker | Podman
MAKERS: dict[str, Callable[[Path, Path], Subject]] = {
    "pyunion": PyUnion,
    "docker": Docker,
    "podman": Podman,
}


@contextlib.contextmanager
def opened(name: str, base: Path, image: Path) -> Iterator[Subject | None]:
    try:
        subject = MAKERS[name](base, image)
    except (OSError, RuntimeError) as error:
        print(f"{name}: left out: {error}", flush=True)
        yield None
        return
    try:
        yield subject
    finally:
        subject.close()


def compare(base: Path, image: Path, names: list[str], change: Path, rounds: int) -> None:
    """Print what the whole commit takes, subject beside subject in each round."""
    with contextlib.ExitStack() as stack:
        subjects = {name: stack.enter_context(opened(name, base, image)) for name in names}
        taken: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, subject in subjects.items():
                if subject is not None:
                    taken.setdefault(name, []).append(subject.commit(change, mounted=False)[0])
        for name, seconds in taken.items():
            ratio = statistics.median(seconds) / statistics.median(taken[names[0]])
            shown = " ".join(f"{each:.2f}" for each in seconds)
            print(f"commit {name:8} {statistics.median(seconds):7.2f} s  {ratio:5.1f}x  ({shown})")


def pauses(base: Path, image: Path, files: int, size: int, rounds: int) -> None:
    """Print how long requests to a mounted container wait for its commit."""
    change = base / f"change-{files}"
    change.mkdir()
    make_change(change, files, size)
    subject = PyUnion(base, image)
    found = [subject.commit(change, mounted=True) for _ in range(rounds)]
    shown = " ".join(f"{(pause or 0) * 1000:.1f}" for _, pause in found)
    whole = statistics.median(took for took, _ in found)
    print(f"pause, {files} files of {size >> 20} MB: {shown} ms; whole commit {whole:.2f} s")
    shutil.rmtree(change)


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--in", dest="place", type=Path, default=None, help="where to work")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=11_000)
    parser.add_argument("--megabytes", type=int, default=600)
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    said = parser.parse_args()
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    with workspace("commit-", said.place) as base:
        image = base / "image"
        make_base(image)
        size = said.megabytes << 20
        pauses(base, image, 10, 1 << 20, said.rounds)
        pauses(base, image, 2 * said.files - 2_000 if said.files > 2_000 else said.files, size, 1)
        change = base / "change"
        change.mkdir()
        make_change(change, said.files, size)
        compare(base, image, said.subjects.split(","), change, said.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
