"""Handles of `UnionFs`, and what an inode of the union shows of the real one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.helpers.layers import Layers
from tests.helpers.unions import core, errno_of, nodeid


def test_a_released_handle_is_not_known_any_more(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": "data"})
    with layers.union() as tree:
        fs = core(tree)
        fh = fs.open(nodeid(tree, b"file"), os.O_RDONLY)
        assert fs.read(fh, 1, 2) == b"at"
        assert errno_of(lambda: fs.write(fh, 0, b"x")) == errno.EBADF
        fs.release(fh)
        assert errno_of(lambda: fs.read(fh, 0, 1)) == errno.EBADF


def test_a_merged_directory_shows_one_link(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"sub": {}}}, {"d": {"other": {}}})
    with layers.union() as tree:
        assert tree.lstat(b"d").nlink == 1
