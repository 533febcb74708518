"""Trees that a stage copies from."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from layerstore.build.ignore import Ignore
from layerstore.build.tree import Tree
from layerstore.errors import StoreError
from mount_tools.build.sources import copy_whole


def test_a_copy_of_a_tree_has_what_is_seen_of_it(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    (tmp_path / "a/hidden").write_text("y")
    (tmp_path / "to").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "a/socket"))
    fd, to = (os.open(tmp_path / name, os.O_RDONLY | os.O_DIRECTORY) for name in (".", "to"))
    try:
        copy_whole(Tree(fd, Ignore(["a/hidden"])), to, "a")
        with pytest.raises(StoreError, match="from nowhere: it does not exist"):
            copy_whole(Tree(fd), to, "nowhere")
    finally:
        os.close(fd)
        os.close(to)
    assert sorted(os.listdir(tmp_path / "to")) == ["b"]
    assert (tmp_path / "to/b/file").read_text() == "x"
