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

How they take turns and are timed: `benchmarks.side_by_side`.  PyUnion alone writes back
what it made before it says that it is done; `pyunion-nosync` does not either.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.side_by_side import CMD, Makers, Said, Taken, in_turns, timed
from benchmarks.stores import DockerStore, PodmanStore, PyUnionStore, Store, run, workspace

ROWS = ("import", "export", "save", "load", "unpack")


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


MAKERS: Makers[Given, Subject] = {
    "pyunion": (PyUnionStore, Subject),
    "pyunion-nosync": (lambda base: PyUnionStore(base, sync=False), Subject),
    "docker": (DockerStore, Docker),
    "podman": (PodmanStore, Podman),
    "umoci": (lambda base: Store("umoci"), Umoci),
}
PACKAGES = {"docker": "docker.io", "podman": "podman", "umoci": "umoci"}


def one_round(taken: Taken, name: str, subject: Subject, number: int) -> None:
    """Let one subject do all it can, and remove what it made."""
    for row, action in subject.actions().items():
        subject.ready(row)
        timed(taken, row, name, subject.store, action)
        if number == 0 and row == "export":
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
    in_turns(MAKERS, base, given, names, rounds, partial(one_round, taken))
    return taken


def main(words: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    said = Said.of(words, __doc__, [*MAKERS], "archives.json", quick=2)
    with workspace("archives-", said.place) as base:
        given = Given.make(base, said.make_rootfs(base))
        taken = measure(base, given, said.names, said.rounds)
        said.report(
            taken,
            PACKAGES,
            bytes=given.tar.stat().st_size,
            files=given.regular,
            syncs=[name for name in said.names if name == "pyunion"],
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
