"""What the tests of the layer store share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore import Store
from tests.layerstore.archives import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    base = tmp_path / "site"
    base.mkdir()
    return Site(base)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "store"


@pytest.fixture
def store(empty_store: Store) -> Iterator[Store]:
    """An empty store, on which every work has to end."""
    yield empty_store
    held = [lease for lease in empty_store.leases.all() if lease.kind != "gone"]
    assert held == [], "a lease outlived its work"
    assert list(empty_store.staging.path.iterdir()) == [], "staging was left behind"
