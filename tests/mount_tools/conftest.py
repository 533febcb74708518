"""Layers to mount, and what must hold when a mount is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.operations.rootfs import import_image
from tests.helpers.builds import Builds
from tests.helpers.containers import Containers, make_rootfs
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import require_fuse, require_root
from tests.helpers.warm import Warm


@pytest.fixture
def layers(tmp_path: Path) -> MountLayers:
    return MountLayers(tmp_path / "layers")


@pytest.fixture
def umask_077() -> Iterator[None]:
    """The umask of a careful user, for this process and those that it starts."""
    old = os.umask(0o077)
    yield
    os.umask(old)


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


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """A process that has imported what a build needs."""
    found = Warm()
    yield found
    found.close()


@pytest.fixture
def builds(containers: Containers, tmp_path: Path, warm: Warm) -> Builds:
    return Builds(containers, tmp_path / "context", warm)
