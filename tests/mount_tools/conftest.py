"""Layers to mount, and what must hold when a mount is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.operations.rootfs import import_image
from tests.helpers.containers import Containers, make_rootfs
from tests.helpers.mounts import layer_options, require_fuse, require_root


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


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small busybox system, not to be changed."""
    root = tmp_path_factory.mktemp("rootfs")
    make_rootfs(root)
    return root


@pytest.fixture
def containers(tmp_path: Path, rootfs: Path) -> Iterator[Containers]:
    require_root()
    require_fuse()
    path = tmp_path / "store"
    with Store.open(path, sync=False) as store:
        import_image(store, rootfs, "busy:1", config={"Cmd": ["sh"], "Env": ["A=b"]})
    with ExitStack() as stack:
        ran = Containers(path, stack)
        stack.callback(ran.end)
        yield ran
    assert str(path) not in Path("/proc/self/mountinfo").read_text()
