"""The fixture of the interop tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.mounts import require_root
from tests.interop.layers import Layers


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Layers]:
    """A place for layers; fails where one of them was changed after its `freeze`."""
    require_root()
    made = Layers(tmp_path)
    yield made
    made.check()
