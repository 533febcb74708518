"""The core is tested in this process, on real directories, as root: layers hold devices."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.freezing import STACK, Frozen
from tests.helpers.layers import Layers
from tests.helpers.mounts import run


@pytest.fixture(autouse=True)
def every_test_as_root(as_root: None) -> None:
    """A union over layers of other users takes root."""


@pytest.fixture(autouse=True, scope="session")
def tracebacks_of_a_deadlock() -> None:
    faulthandler.enable()


@pytest.fixture
def union(tmp_path: Path) -> Iterator[Frozen]:
    """A union over `STACK` that is about to be frozen."""
    layers = Layers(tmp_path, STACK)
    with layers.union(lowers_change=True, strict=False) as tree:
        yield Frozen(layers, tree)


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[tuple[Layers, list[Path]]]:
    """Layers, and a list for the paths that a test marks with chattr(1)."""
    layers = Layers(tmp_path)
    paths: list[Path] = []
    yield layers, paths
    for path in paths:
        run("chattr", "-ia", path)
