"""Layers in a temporary directory, and unions over them opened in this process.

A test describes what a layer holds with `fill`; `Layers.union` opens a union,
and when the test is done with it checks what holds for every union: nothing
left in memory, nothing left in the workdir, no lower changed.
"""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.core_driver import CoreDriver
from tests.helpers.trees import Tree, leftovers, raw, snapshot
from unionfs.core.config import UnionConfig
from unionfs.core.union import UnionFs, open_union
from unionfs.types import NodeId

OLD_NS = 1_000_000_000_123_456_789

Content = Mapping[str, "str | bytes | Content | None"]
"""A name and what it is: text of a file, a dict for a directory, None for a whiteout."""


def fill(folder: Path, content: Content) -> None:
    """Make what `content` describes in `folder`."""
    for name, what in content.items():
        path = folder / name
        if what is None:
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        elif isinstance(what, str | bytes):
            path.write_bytes(what.encode() if isinstance(what, str) else what)
        else:
            path.mkdir(exist_ok=True)
            fill(path, what)


def settle() -> None:
    """Collect what garbage there is, and let the next call look at what came after it alone.

    Thousands of tests leave much that is kept for the report.
    """
    gc.collect()
    gc.freeze()


def open_fds() -> int:
    """Return how many files this process has open.

    Not counted are those that only wait for the garbage collector: an earlier
    test's, in the frames of an exception it caught.
    """
    settle()
    return len(os.listdir("/proc/self/fd")) - 1


class Layers:
    """Lowers (`lowers[0]` on top), an upper and a workdir beneath `base`."""

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
        self, *, lowers_change: bool = False, strict: bool = True, **settings: Any
    ) -> Iterator[CoreDriver]:
        """Open the union; `lowers_change` says that the test itself changes a lower.

        Unless `strict`, what is left in memory is not counted.
        """
        before = {} if lowers_change else {lower: raw(lower) for lower in self.lowers}
        fds = open_fds()
        fs = open_union(self.config(**settings))
        driver = CoreDriver(fs)
        try:
            yield driver
            if strict:
                driver.finish()
        finally:
            fs.close()
        assert open_fds() == fds, "the union left files open"
        assert leftovers(self.work) == [], "the union left something in the workdir"
        for lower, was in before.items():
            assert raw(lower) == was, f"{lower} was changed"

    def look(self, **settings: Any) -> Tree:
        """Return what a fresh union shows of all layers."""
        with self.union(**settings) as tree:
            return snapshot(tree)


def errno_of(action: Callable[[], object]) -> int:
    """Return the errno `action` fails with; nothing of its traceback, and so no fd, is kept."""
    try:
        action()
    except OSError as error:
        return error.errno or 0
    raise AssertionError("it did not fail")


def core(driver: CoreDriver) -> UnionFs:
    """Return the union itself behind `driver`."""
    assert isinstance(driver.fs, UnionFs)
    return driver.fs


def nodeid(driver: CoreDriver, path: bytes) -> NodeId:
    """Return the nodeid of `path`; the driver keeps a reference to it."""
    return driver._get(path).nodeid
