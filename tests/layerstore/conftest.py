"""What the tests of the layer store share.

Stores to test on are without syncs, which only a crash of the machine would show.
"""

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
def store(root: Path) -> Iterator[Store]:
    """An empty store."""
    with Store.open(root, sync=False) as opened:
        yield opened
        held = [lease for lease in opened.leases.all() if lease.kind != "gone"]
        assert held == [], "a lease outlived its work"
        assert list(opened.staging.path.iterdir()) == [], "staging was left behind"
