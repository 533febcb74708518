"""A mount with a control socket, by each transport."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.mounts import Union, mounted_union


@pytest.fixture
def below(tmp_path: Path) -> Layers:
    return Layers(tmp_path / "layers", {"file": "low", "folder": {"deep": "1"}})


@pytest.fixture(params=("pyfuse3", "dev_fuse"))
def union(request: pytest.FixtureRequest, below: Layers) -> Iterator[Union]:
    options = (f"control={below.base}/control", f"transport={request.param}")
    with mounted_union(below.lowers, below.upper, below.work, options) as mounted:
        yield mounted


@pytest.fixture
def path(below: Layers) -> Path:
    """The control socket of `union`."""
    return below.base / "control"
