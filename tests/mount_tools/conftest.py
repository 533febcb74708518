"""Layers to mount, and what must hold when a mount is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.mounts import layer_options


@dataclass(frozen=True)
class Layers:
    """Two lowers, an upper, a work directory and a mount point, in one directory."""

    base: Path

    def __post_init__(self) -> None:
        for name in ("high", "low", "upper", "work", "merged"):
            (self.base / name).mkdir()
        (self.high / "from-high").write_text("high\n")
        (self.low / "from-low").write_text("low\n")
        (self.low / "gone").write_text("to be deleted\n")

    @property
    def high(self) -> Path:
        return self.base / "high"

    @property
    def low(self) -> Path:
        return self.base / "low"

    @property
    def upper(self) -> Path:
        return self.base / "upper"

    @property
    def work(self) -> Path:
        return self.base / "work"

    @property
    def merged(self) -> Path:
        return self.base / "merged"

    @property
    def words(self) -> str:
        return os.fsdecode(layer_options([self.high, self.low], self.upper, self.work))

    def snapshot(self) -> dict[str, tuple[int, int, int]]:
        """Return mode, size and mtime of all there is, to see that nothing changed."""
        found = {}
        for directory, subdirectories, files in os.walk(self.base):
            for name in [*subdirectories, *files, "."]:
                path = os.path.join(directory, name)
                st = os.lstat(path)
                found[path] = (st.st_mode, st.st_size, st.st_mtime_ns)
        return found


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    base = tmp_path / "layers"
    base.mkdir()
    return Layers(base)
