"""What the tests of containers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore import Store
from tests.helpers.images import add_image
from tests.helpers.mounts import require_fuse, require_root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with box:1, to be mounted."""
    require_root()
    require_fuse()
    with Store.open(tmp_path / "store", sync=False) as store:
        add_image(store, {"file": b"of the image"}, names=["box:1"])
        yield store
