"""What the tests of the layer store share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layerstore.archives import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    base = tmp_path / "site"
    base.mkdir()
    return Site(base)
