"""The layers that the subjects are mounted over, made once a run.

Decided here and only here: what is in them.  They hold no whiteouts and no
marks of overlayfs, so every subject sees the same tree.  A subject may not
change them; `Stack.fingerprint` tells.

Source: sizes after those of source trees, a log-normal with a median of 3 KiB.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# In every NEEDLE_EVERY-th file of a source tree, for grep.
NEEDLE = "haystack-needle"
NEEDLE_EVERY = 40

# The top directories of a source tree, equal in size: one for each thing to be done to them.
QUARTERS = ("alpha", "beta", "gamma", "delta")

IO_FILE = "data.bin"

FILES_A_DIRECTORY = 20


@dataclass(frozen=True)
class Stack:
    """Layers, the topmost first, each relative to `where` or absolute.

    Relative, since 256 paths must fit into the one page that mount(2) takes.
    `files` is how many regular files the union of them shows.
    """

    where: Path
    layers: tuple[str, ...]
    files: int

    def plain_copy(self) -> Path:
        """Return a plain directory with the merged tree, made at the first call."""
        there = self.where / "merged"
        if not there.exists():
            self.copy_to(there)
        return there

    def copy_to(self, there: Path) -> None:
        """Copy the merged tree to directory `there`, as `cp -a` of the layers bottom to top."""
        there.mkdir(exist_ok=True)
        for layer in reversed(self.layers):
            subprocess.run(["cp", "-a", "--", f"{self.where / layer}/.", there], check=True)

    def fingerprint(self) -> int:
        """Return a number that changes with any file's size, mode, owner, mtime or name."""
        return hash(tuple(seen for layer in self.layers for seen in _seen(self.where / layer)))


def _seen(directory: Path) -> Iterable[tuple[str, int, int, int, int]]:
    for path, directories, files in os.walk(directory):
        directories.sort()
        for name in sorted(directories + files):
            st = os.lstat(os.path.join(path, name))
            yield os.path.join(path, name), st.st_size, st.st_mode, st.st_uid, st.st_mtime_ns


def source_tree(where: Path, files: int) -> Stack:
    """Make two layers like a source tree: a base, and a second one that adds a tenth to it."""
    choice = random.Random(files)
    words = ["".join(choices) for choices in _words(choice)]
    for number in range(files):
        quarter = QUARTERS[number % len(QUARTERS)]
        place = number // len(QUARTERS)
        layer = "0" if number % 10 == 9 else "1"
        directory = where / layer / quarter / f"package{place // FILES_A_DIRECTORY:03}" / "src"
        directory.mkdir(parents=True, exist_ok=True)
        size = min(int(choice.lognormvariate(8.0, 1.0)), 60_000)
        text = "\n".join(" ".join(choice.choices(words, k=9)) for _ in range(max(1, size // 60)))
        if number % NEEDLE_EVERY == 0:
            text += f"\n{NEEDLE}\n"
        (directory / f"module{place:05}.py").write_text(text)
    return Stack(where, ("0", "1"), files)


def needles(files: int) -> int:
    """Return how many files of a source tree hold the needle."""
    return -(-files // NEEDLE_EVERY)


def _words(choice: random.Random) -> Iterable[list[str]]:
    letters = "etaoinshrdlucmfw"
    for _ in range(2000):
        yield choice.choices(letters, k=choice.randint(2, 9))


def dealt(where: Path, layers: int, files: int, directories: int) -> Stack:
    """Deal the same `files` in the same `directories` out to any number of layers.

    Every layer has every directory, so each is merged of all layers.
    """
    for layer in range(layers):
        for number in range(directories):
            (where / str(layer) / f"dir{number}").mkdir(parents=True)
    for number in range(files):
        name = f"dir{number % directories}/file{number}"
        (where / str(number % layers) / name).write_text(f"{number}\n")
    return Stack(where, tuple(map(str, range(layers))), files)


def many_files(where: Path, files: int) -> Stack:
    """Make one layer of many empty files, and an empty one on it."""
    (where / "0").mkdir(parents=True)
    for number in range(files):
        directory = where / "1" / f"dir{number // 100}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        (directory / f"file{number}").touch()
    return Stack(where, ("0", "1"), files)


def large_file(where: Path, mib: int) -> Stack:
    """Make a layer of one large file without holes, and an empty one on it."""
    for layer in ("0", "1"):
        (where / layer).mkdir(parents=True)
    with open(where / "1" / IO_FILE, "wb") as data:
        for _ in range(mib):
            data.write(os.urandom(1 << 20))
    return Stack(where, ("0", "1"), 1)


def root_filesystem(where: Path, rootfs: Path) -> Stack:
    """Put a layer with one file of this site's on a Debian root filesystem."""
    (where / "0" / "etc").mkdir(parents=True)
    (where / "0" / "etc" / "motd").write_text("A union to be measured.\n")
    return Stack(where, ("0", str(rootfs)), 0)
