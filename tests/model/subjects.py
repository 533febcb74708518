"""The unions the machines run on."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from tests.helpers.core_driver import CoreDriver
from tests.helpers.drivers import Driver, Entry, OsDriver
from tests.helpers.mounts import kernel_overlay, mounted
from tests.helpers.unions import discard_staged, in_a_thread
from tests.model.deviations import Subject as Kind
from unionfs.core import stage_ahead
from unionfs.core.ahead import Start
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union


class _OverlayDriver(OsDriver):
    """A directory of kernel overlayfs.

    It lists a directory that is not merged as it is in its layer, with the whiteouts that
    somebody made there, of which it then says ENOENT (fs/overlayfs/readdir.c:ovl_iterate_real()).
    """

    def listdir(self, path: bytes) -> list[Entry]:
        return [
            entry
            for entry in super().listdir(path)
            if entry.kind != stat.S_IFCHR or os.path.lexists(self.at(path) + b"/" + entry.name)
        ]


class KernelOverlay:
    """Kernel overlayfs, with the options that PyUnion has on by default."""

    kind = Kind.KERNEL

    def __init__(self, *options: str) -> None:
        self.options = ("redirect_dir=on", "index=on", "metacopy=off", *options)
        self._stack = contextlib.ExitStack()

    def open(self, lowers: Sequence[Path], upper: Path, work: Path) -> Driver:
        root = self._stack.enter_context(kernel_overlay(lowers, upper, work, self.options))
        return _OverlayDriver(root)

    def freeze(self, upper_to: Path) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._stack.close()


class Mount:
    """PyUnion behind a mount point."""

    kind = Kind.MOUNT

    def __init__(self, *options: str) -> None:
        self.options = options
        self._stack = contextlib.ExitStack()

    def open(self, lowers: Sequence[Path], upper: Path, work: Path) -> Driver:
        root = self._stack.enter_context(mounted(lowers, upper, work, self.options))
        return OsDriver(root)

    def freeze(self, upper_to: Path) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._stack.close()


class Core:
    """PyUnion's core, called in this process."""

    kind = Kind.CORE

    def __init__(self, background: Start | None = None, **settings: Any) -> None:
        self.background = background
        self.settings = settings

    def open(self, lowers: Sequence[Path], upper: Path, work: Path) -> Driver:
        config = UnionConfig(
            lowers=tuple(os.fsencode(lower) for lower in lowers),
            upper=os.fsencode(upper),
            work=os.fsencode(work),
            **self.settings,
        )
        self.union = open_union(config, self.background)
        self.driver = CoreDriver(self.union)
        return self.driver

    def freeze(self, upper_to: Path) -> None:
        self.driver.fs.freeze(os.fsencode(upper_to))

    def close(self) -> None:
        try:
            discard_staged(self.union)
            self.driver.finish()
        finally:
            self.driver.fs.close()


class CoreAhead(Core):
    """PyUnion's core, which stages copies ahead after every copy_up in a directory."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(in_a_thread, **settings)
        self._stack = contextlib.ExitStack()

    def open(self, lowers: Sequence[Path], upper: Path, work: Path) -> Driver:
        self._stack.enter_context(mock.patch.object(stage_ahead, "RUN", 0))
        return super().open(lowers, upper, work)

    def close(self) -> None:
        with self._stack:
            super().close()
