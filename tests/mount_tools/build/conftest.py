"""A store with a small busybox image, for stages and builds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.operations.rootfs import import_image
from tests.helpers.mounts import require_fuse, require_root


@pytest.fixture
def store(store: Store, tmp_path: Path, rootfs: Path) -> Iterator[Store]:
    """A store that holds busy:1."""
    require_root()
    require_fuse()
    import_image(store, rootfs, "busy:1", config={"Cmd": ["sh"], "Env": ["A=b"]})
    yield store
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
