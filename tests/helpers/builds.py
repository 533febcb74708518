"""Builds in processes of their own, on a store that holds busy:1."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from layerstore import Store
from layerstore.diff.union import UnionFiles
from tests.helpers.containers import Containers
from tests.helpers.warm import Warm


class Builds:
    """`pyunion build` of a context that a test writes, with `warm` as a fork of that process."""

    def __init__(self, containers: Containers, context: Path, warm: Warm | None = None) -> None:
        self.containers = containers
        self.context = context
        self._warm = warm
        context.mkdir()

    def write(self, text: str, **files: str) -> None:
        """Write the Containerfile, and files of the context."""
        (self.context / "Containerfile").write_text(text)
        for name, content in files.items():
            (self.context / name).write_text(content)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        # What reaches the disk, and when, has tests of its own.
        words = ("--no-sync", "build", *words, str(self.context))
        if self._warm is None:
            return self.containers(*words)
        return self._warm.run("--root", str(self.containers.store), *words)

    def ok(self, text: str | None = None, *words: str) -> list[str]:
        """Build, which is to go well; return the lines that were printed."""
        if text is not None:
            self.write(text)
        done = self.run("-t", "made", *words)
        assert done.returncode == 0, done
        assert done.stderr == "", done
        return done.stdout.splitlines()

    def fails(self, text: str, *words: str, status: int = 1) -> str:
        """Build, which is to fail; return what was said on stderr."""
        self.write(text)
        done = self.run(*words)
        assert done.returncode == status, done
        assert "Traceback" not in done.stderr and "a bug in PyUnion" not in done.stderr
        return done.stderr

    def config(self, name: str = "made") -> dict[str, Any]:
        """Return the configuration of an image, as its blob has it."""
        with Store.open(self.containers.store, sync=False) as store:
            image = store.images.resolve(name)
            found: dict[str, Any] = json.loads(store.blobs.read(image.id))
            return found

    def layers(self, name: str = "made") -> list[Path]:
        """Return the trees of an image, the topmost first."""
        with Store.open(self.containers.store, sync=False) as store:
            return [layer.diff for layer in store.layers.chain(store.images.resolve(name).top)]

    def content(self, *paths: str, name: str = "made") -> str:
        """Return what files of an image hold, one after the other, without white space around.

        No container is started, which takes longer than most builds.
        """
        with UnionFiles(self.layers(name)) as files:
            found = []
            for path in paths:
                with files.open(os.fsencode(path.strip("/"))) as file:
                    found.append(file.read().decode())
            return "".join(found).strip()

    def sh(self, line: str, name: str = "made") -> str:
        """Run `line` in a container of an image; return what it printed."""
        return self.containers.ok("run", "--rm", "--entrypoint", "/bin/sh", name, "-c", line)


def cached(lines: list[str]) -> int:
    """Return how many steps of a build were cached."""
    return lines.count(" ---> Using cache")
