"""The st_ino and the data that the marks on an upper file lead to."""

from __future__ import annotations

import os
from pathlib import Path

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
