"""`python -m benchmarks.builds`: builds of Containerfiles, beside docker's and buildah's.

Decided here and only here: what is built, and how it is timed.  All get one small busybox
image and build it in turn, round by round; who begins changes with the round.  Nothing is
cached where a row does not say so.

    true20    20 x RUN true
    copy      COPY of 10,000 files of 200 MB, then 5 RUNs that touch one file each
    cached    a build of 100 steps that are all cached
    last      20 steps, the last of which copies a file that has changed
    apt       apt-get install of PACKAGES over a small Debian

The packages of `apt` come from a directory that this process serves on the loopback.  The
Debian and the packages are fetched by mmdebstrap and apt before anything is timed; the row is
left out if they are not there.

`pyunion-user` and `buildah-user` are an ordinary user's, who has sub-ids.

docker's is the classic builder of a dockerd of its own, buildah's is `bud --layers
--isolation chroot` on kernel overlayfs.  PyUnion alone writes back what it made before it
says that it is done; `pyunion-nosync` does not either.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.ordinary_user import OrdinaryUser
from benchmarks.side_by_side import line
from benchmarks.stores import DockerStore, PyUnionStore, Store, run, workspace
from benchmarks.subjects import said_by

TOOLS = ("sh", "true", "touch", "echo", "cat")
NAME = "localhost/made:1"
BASE = "localhost/busy:1"
FILES, BYTES = 10_000, 200_000_000
DEBIAN = "localhost/debian:1"
SUITE = "bookworm"
PACKAGES = ("git", "python3-minimal", "curl", "gcc", "libc6-dev")


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

    def give(self, tar: Path, name: str) -> None:
        """Make the image `name` of a root filesystem."""
        self.store.command("import", tar, name)

    def build(self, context: Path, *, cached: bool) -> None:
        words = [*self.build_words, *(() if cached else (self.uncached,))]
        self.store.command(*words, context)


class Docker(Subject):
    """docker's classic builder, which begins a RUN fastest on the network of the host."""

    build_words = ("build", "--network", "host", "-t", NAME)


class Buildah(Subject):
    build_words = ("bud", "--layers", "--isolation", "chroot", "--format", "docker", "-t", NAME)

    def give(self, tar: Path, name: str) -> None:
        container = self.store.command("from", "scratch")
        self.store.command("add", container, tar, "/")
        self.store.command("commit", container, name)
        self.store.command("rm", container)


class UserStore(Store):
    """A store of an ordinary user, through the command `words`."""

    def __init__(self, base: Path, *words: str | Path) -> None:
        self._user = OrdinaryUser(base)
        super().__init__(*words)

    def command(self, *words: str | Path) -> str:
        return run(*self._user.words(*self.words, *words), more=self._user.environment)


def _of_a_user(kind: type[Subject], home: Path, *words: str | Path) -> Subject:
    home.mkdir(mode=0o755)
    home.parent.chmod(0o755)
    return kind(UserStore(home, *words))


def _ours_of_a_user(base: Path) -> Subject:
    return _of_a_user(Subject, base / "pyunion-user", sys.executable, "-m", "mount_tools.pyunion")


def _buildah_of_a_user(base: Path) -> Subject:
    home = base / "buildah-user"
    words = ("--root", home / "store", "--runroot", home / "runtime/run")
    return _of_a_user(Buildah, home, "buildah", *words, "--storage-driver", "overlay")


MAKERS: dict[str, Callable[[Path], Subject]] = {
    "pyunion": lambda base: Subject(PyUnionStore(base)),
    "pyunion-nosync": lambda base: Subject(PyUnionStore(base, sync=False)),
    "docker": lambda base: Docker(DockerStore(base)),
    "buildah": lambda base: Buildah(BuildahStore(base)),
    "pyunion-user": _ours_of_a_user,
    "buildah-user": _buildah_of_a_user,
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

    def add(self, debian: Debian) -> None:
        """Add the row `apt`."""
        self.contexts["apt"] = self._context("apt", debian.containerfile())

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


class Debian:
    """The base and the packages of the row `apt`, served on the loopback."""

    def __init__(self, base: Path) -> None:
        """Fetch them.  Raises RuntimeError if that is not possible."""
        self.tar = base / "debian.tar"
        place = base / "packages"
        archives, root = base / "archives", base / "debian"
        for folder in (place, archives / "partial", root):
            folder.mkdir(parents=True)
        run("mmdebstrap", "--variant=apt", SUITE, self.tar)
        run("tar", "-C", root, "-xf", self.tar, "./var/lib/dpkg")
        status = f"Dir::State::status={root}/var/lib/dpkg/status"
        fetch = ["apt-get", "-y", "--no-install-recommends", "--download-only", "-o", status]
        fetch += ("-o", f"Dir::Cache::archives={archives}", "-o", "APT::Sandbox::User=root")
        run(*fetch, "install", *PACKAGES)
        for package in archives.glob("*.deb"):
            package.rename(place / package.name)
        listed = subprocess.run(
            ["dpkg-scanpackages", "."], cwd=place, capture_output=True, check=True
        )
        (place / "Packages").write_bytes(listed.stdout)
        handler = functools.partial(_Quiet, directory=str(place))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def containerfile(self) -> str:
        """Return the file of the row."""
        source = f"deb [trusted=yes] {self.url} ./"
        install = "apt-get install -y --no-install-recommends " + " ".join(PACKAGES)
        return (
            f"FROM {DEBIAN}\nENV DEBIAN_FRONTEND=noninteractive\n"
            f"RUN echo '{source}' > /etc/apt/sources.list && apt-get update && {install}\n"
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


ROWS = ("true20", "copy", "cached", "last", "apt")
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
    with ExitStack() as stack:
        subjects = []
        tar = base / "rootfs.tar"
        make_rootfs_tar(base, tar)
        debian = None
        if "apt" in rows:
            try:
                debian = Debian(base)
                stack.callback(debian.close)
                given.add(debian)
            except (OSError, RuntimeError) as error:
                print(f"apt: left out: {error}", flush=True)
                rows = [row for row in rows if row != "apt"]
        taken: Taken = {row: {} for row in rows}
        for name in names:
            try:
                subject = MAKERS[name](base)
            except (OSError, RuntimeError) as error:
                print(f"{name}: left out: {error}", flush=True)
                continue
            stack.callback(subject.store.close)
            subject.give(tar, BASE)
            if debian is not None:
                subject.give(debian.tar, DEBIAN)
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
        lines.append(line(row, medians, names))
    return "\n".join(lines)


def as_json(taken: Taken, about: dict[str, str]) -> str:
    """Return the results with what was measured on."""
    rows = {
        row: {
            name: {"median": statistics.median(seconds), "seconds": seconds}
            for name, seconds in by_name.items()
        }
        for row, by_name in taken.items()
    }
    return json.dumps({"format": 1, "about": about, "rows": rows}, indent=1) + "\n"


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
        chosen.out.write_text(as_json(taken, about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
