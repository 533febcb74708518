"""The st_ino and the data that the marks on an upper file lead to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.helpers.layers import Layers


def test_a_metacopy_shows_the_number_and_the_data_of_its_lower(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"file": "data"}})
    with layers.union(metacopy=True) as tree:
        ino = tree.lstat(b"d/file").ino
        tree.chmod(b"d/file", 0o600)
        tree.rename(b"d/file", b"moved", 0)
    upper = layers.upper / "moved"
    assert os.getxattr(upper, "trusted.overlay.metacopy") == b""
    assert os.getxattr(upper, "trusted.overlay.redirect") == b"/d/file"
    assert upper.read_bytes() == bytes(4)
    with layers.union(metacopy=True) as tree:
        assert tree.lstat(b"moved").ino == ino
        assert tree.read(b"moved") == b"data"


@pytest.mark.parametrize("name", [b"d/one", b"two"])
def test_a_metacopy_that_the_index_leads_to_has_its_data(tmp_path: Path, name: bytes) -> None:
    """It is known by its name in the union, and not by that of the entry."""
    layers = Layers(tmp_path, {"d": {"one": "text"}})
    os.link(layers.lowers[0] / "d/one", layers.lowers[0] / "two")
    with layers.union(metacopy=True) as tree:
        tree.chmod(b"d/one", 0o600)
    with layers.union(metacopy=True) as tree:
        assert tree.read(name) == b"text"
        assert stat.S_IMODE(tree.lstat(name).mode) == 0o600
