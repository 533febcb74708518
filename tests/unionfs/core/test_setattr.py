"""chmod, truncate and utimensat copy up what they change, and only that."""

from __future__ import annotations

import os
from pathlib import Path

from tests.helpers.layers import Layers


def test_truncate_copies_only_the_bytes_that_are_kept(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "0123456789", "other": "x"})
    with layers.union() as tree:
        tree.truncate(b"file", 4)
        assert tree.read(b"file") == b"0123"
    assert (layers.upper / "file").read_bytes() == b"0123"
    assert os.listdir(layers.upper) == ["file"]


def test_mode_and_times_of_a_lower_directory_change_in_the_upper(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"file": "x"}})
    with layers.union() as tree:
        tree.chmod(b"d", 0o711)
        tree.utimens(b"d", 1_000_000_007, 2_000_000_009)
    found = os.stat(layers.upper / "d")
    assert (found.st_mode & 0o7777, found.st_mtime_ns) == (0o711, 2_000_000_009)
    assert os.listdir(layers.upper / "d") == []
