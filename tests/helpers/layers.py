"""Layers written by hand in the formats of others, mounted by PyUnion or by the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conformance.tree import Node, build
from tests.helpers import trees
from tests.helpers.mounts import kernel_overlay, mounted, require_root

KERNEL_OPTIONS = ("redirect_dir=on", "metacopy=on", "index=on")


class HandmadeLayers:
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


@pytest.fixture(name="layers")
def handmade_layers(tmp_path: Path) -> Iterator[HandmadeLayers]:
    """Yield empty layers; fail where one of them was changed after its `freeze`."""
    require_root()
    made = HandmadeLayers(tmp_path)
    yield made
    made.check()
