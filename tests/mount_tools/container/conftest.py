"""What the tests of containers share."""

from __future__ import annotations

import pytest

from layerstore import Store
from tests.helpers.images import add_image
from tests.helpers.mounts import require_fuse, require_root


@pytest.fixture
def store(store: Store) -> Store:
    """A store with box:1, to be mounted."""
    require_root()
    require_fuse()
    add_image(store, {"file": b"of the image"}, names=["box:1"])
    return store
