"""The layers of tests: described by what they hold, made to be mounted, or written by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.tree import Node, build
from tests.helpers import trees
from tests.helpers.core_driver import CoreDriver
from tests.helpers.mounts import kernel_overlay, layer_options, mounted, require_root
from tests.helpers.unions import Content, discard_staged, fill, open_fds
from unionfs.core.ahead import Start
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union

KERNEL_OPTIONS = ("redirect_dir=on", "metacopy=on", "index=on")


class Layers:
    """Lowers (`lowers[0]` on top), an upper and a workdir beneath `base`.

    `union` opens a union in this process, and when the test is done with it checks what
    holds for every union: nothing left in memory, nothing left in the workdir, no lower
    changed.
    """

    def __init__(self, base: Path, *lowers: Content) -> None:
        self.base = base
        self.upper, self.work = base / "upper", base / "work"
        self.lowers = [base / f"lower{number}" for number in range(len(lowers) or 1)]
        for folder in (self.upper, self.work, *self.lowers):
            folder.mkdir(parents=True)
        for folder, content in zip(self.lowers, lowers, strict=False):
            fill(folder, content)

    def config(self, **settings: Any) -> UnionConfig:
        given: dict[str, Any] = {
            "lowers": tuple(os.fsencode(lower) for lower in self.lowers),
            "upper": os.fsencode(self.upper),
            "work": os.fsencode(self.work),
        }
        return UnionConfig(**(given | settings))

    def read_only(self, **settings: Any) -> dict[str, Any]:
        return {"upper": None, "work": None, **settings}

    @contextmanager
    def union(
        self,
        *,
        lowers_change: bool = False,
        strict: bool = True,
        background: Start | None = None,
        **settings: Any,
    ) -> Iterator[CoreDriver]:
        """Open the union; `lowers_change` says that the test itself changes a lower.

        Unless `strict`, what is left in memory is not counted.  `background` is that of
        `open_union`.
        """
        before = {} if lowers_change else {lower: trees.raw(lower) for lower in self.lowers}
        fds = open_fds()
        fs = open_union(self.config(**settings), background)
        driver = CoreDriver(fs)
        try:
            yield driver
            if strict:
                discard_staged(fs)
                driver.finish()
        finally:
            fs.close()
        assert open_fds() == fds, "the union left files open"
        assert trees.leftovers(self.work) == [], "the union left something in the workdir"
        for lower, was in before.items():
            assert trees.raw(lower) == was, f"{lower} was changed"

    def look(self, **settings: Any) -> trees.Tree:
        """Return what a fresh union shows of all layers."""
        with self.union(**settings) as tree:
            return trees.snapshot(tree)


class MountLayers(Layers):
    """Two lowers, an upper and a work directory, and a mount point, to be mounted by PyUnion."""

    def __init__(self, base: Path) -> None:
        super().__init__(
            base, {"from-high": "high\n"}, {"from-low": "low\n", "gone": "to be deleted\n"}
        )
        self.high, self.low = self.lowers
        self.merged = base / "merged"
        self.merged.mkdir()

    @property
    def words(self) -> str:
        return os.fsdecode(layer_options(self.lowers, self.upper, self.work))

    def stats(self) -> dict[str, tuple[int, int, int]]:
        """Return mode, size and mtime of all there is, to see that nothing changed."""
        found = {}
        for directory, subdirectories, files in os.walk(self.base):
            for name in [*subdirectories, *files, "."]:
                path = os.path.join(directory, name)
                st = os.lstat(path)
                found[path] = (st.st_mode, st.st_size, st.st_mtime_ns)
        return found


class HandmadeLayers:
    """Layers in the formats of others, mounted by PyUnion or by the kernel.

    `layer` makes one; `stack` is all of them, topmost first.
    """

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

    def union(
        self, *options: str, upper: bool = True, quiet: bool = True
    ) -> AbstractContextManager[Path]:
        self.freeze()
        return mounted(self._lowers(), *self._upper(upper), options=options, quiet=quiet)

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
