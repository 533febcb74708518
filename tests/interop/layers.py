"""Layers written by hand in the formats of others, and looking at them through either union."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.conformance.tree import Node, build
from tests.helpers import trees
from tests.helpers.drivers import OsDriver
from tests.helpers.mounts import kernel_overlay, mounted

KERNEL_OPTIONS = ("redirect_dir=on", "metacopy=on", "index=on")
TRUSTED = "trusted.overlay."


class Layers:
    """Directories in a scratch place: `layer` makes one, `stack` is all of them, topmost first."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.stack: list[Path] = []
        self.frozen: dict[Path, dict[bytes, tuple[object, ...]]] = {}
        self._data: list[Path] = []
        self.upper = base / "upper"
        self.work = base / "work"
        self.upper.mkdir()
        self.work.mkdir()

    def layer(self, *nodes: Node) -> Path:
        """Make a layer beneath those made before."""
        path = self.base / f"layer{len(self.stack)}"
        build(nodes, os.fsencode(path))
        self.stack.append(path)
        return path

    def data(self, *nodes: Node) -> Path:
        """Make a data-only layer beneath those made before."""
        path = self.base / f"data{len(self._data)}"
        build(nodes, os.fsencode(path))
        self._data.append(path)
        return path

    def rotate(self) -> None:
        """Make the upper the topmost lower, under a fresh upper."""
        self.stack.insert(0, self.upper)
        for name in ("upper", "work"):
            fresh = self.base / f"{name}{len(self.stack)}"
            fresh.mkdir()
            setattr(self, name, fresh)

    def freeze(self) -> None:
        """From here on no lower may change."""
        self.frozen = {layer: trees.raw(layer) for layer in (*self.stack, *self._data)}

    def check(self) -> None:
        """Fail where a lower changed since `freeze`."""
        for layer, before in self.frozen.items():
            assert trees.raw(layer) == before, f"the lower {layer.name} was changed"

    def kernel(
        self, *options: str, upper: bool = True, defaults: Sequence[str] = KERNEL_OPTIONS
    ) -> AbstractContextManager[Path]:
        self.freeze()
        return kernel_overlay(self._lowers(), *self._upper(upper), options=(*defaults, *options))

    def union(self, *options: str, upper: bool = True) -> AbstractContextManager[Path]:
        self.freeze()
        return mounted(self._lowers(), *self._upper(upper), options=options)

    def _lowers(self) -> list[Path | str]:
        # An empty name makes the "::" before each data-only layer.
        return [*self.stack, *(word for path in self._data for word in ("", path))]

    def _upper(self, wanted: bool) -> tuple[Path | None, Path | None]:
        return (self.upper, self.work) if wanted else (None, None)


def look(root: Path, *, d_ino: bool = True) -> trees.Tree:
    """Return the tree at `root`."""
    return trees.snapshot(OsDriver(root), d_ino=d_ino)


def contents(root: Path) -> dict[str, str | None]:
    """Return the content of every file beneath `root`, None for a directory."""
    found: dict[str, str | None] = {}
    for path, thing in look(root).items():
        if path:
            is_dir = thing.mode & 0o170000 == 0o040000
            found[os.fsdecode(path)] = None if is_dir else thing.content.decode()
    return found
