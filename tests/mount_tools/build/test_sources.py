"""Trees that a stage copies from."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from layerstore.build.ignore import Ignore
from layerstore.build.source_digest import Digester
from layerstore.build.tree import Tree
from layerstore.errors import StoreError
from mount_tools.build.sources import Reached, copy_whole
from tests.helpers.mappings import mapped


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


def test_what_a_run_sees_of_the_context_is_what_its_key_says(tmp_path: Path) -> None:
    """Else the cache would have what a RUN made of other files, for everybody."""
    for name in ("context/d", "directory"):
        (tmp_path / name).mkdir(parents=True)
    fd = os.open(tmp_path / "context", os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = Tree(fd)
        with mapped(tmp_path / "context/d/file", b"good") as store:
            (tmp_path / "context/d/other").write_text("x")
            of_all = Digester(tree).directory(tree.walk("")).seen
            found = tree.find("d/file")
            assert found is not None
            of_one = Digester(tree).file("d/file", found.st).seen
            reached = Reached(tree, {}, tmp_path / "directory")
            base, inside = reached.copied(".", of_all)
            assert Path(base, inside, "d/file").read_bytes() == b"good"
            assert reached.copied(".", of_all) == (base, inside)
            base, inside = reached.copied("d/file", of_one)
            assert Path(base, inside).read_bytes() == b"good"
            assert os.listdir(base) == ["file"]
            store(b"evil")
            for source, seen in ((".", of_all), ("d/file", of_one)):
                with pytest.raises(StoreError, match="d/file changed while it was read"):
                    Reached(tree, {}, tmp_path / "directory").copied(source, seen)
    finally:
        os.close(fd)
