"""Trees are walked whole, whatever their depth, and nothing is followed out of them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from layerstore.db.staging import remove_tree
from layerstore.diff.tree_walk import walk
from layerstore.layer.index import compare, read_index
from layerstore.layer.pack import pack
from layerstore.layer.tar_split import assemble
from tests.helpers.unions import fill
from tests.layerstore.archives import PRIVILEGED

DEPTH = 1500  # deeper than Python calls, and than a path can be long


def deepen(top: Path) -> None:
    """Make a chain of directories in `top`, and something at its end."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("deep", dir_fd=fd)
        below = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("leaf", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as leaf:
        leaf.write(b"content")
    os.symlink("leaf", "link", dir_fd=fd)
    os.close(fd)


def test_every_directory_once_and_no_link(tmp_path: Path) -> None:
    fill(tmp_path, {"a": {"b": {"x": ""}, "c": {}}, "d": {"y": ""}})
    (tmp_path / "out").symlink_to("/")
    (tmp_path / "a/round").symlink_to("..")
    found = {folder.path: sorted(folder.names) for folder in walk(tmp_path)}
    assert found == {
        b"": [b"a", b"d", b"out"],
        b"a": [b"b", b"c", b"round"],
        b"a/b": [b"x"],
        b"a/c": [],
        b"d": [b"y"],
    }


@pytest.mark.parametrize("live", [True, False])
def test_a_directory_that_moves_leads_nowhere(tmp_path: Path, live: bool) -> None:
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    fill(tmp_path, {"top": {"a": {"b": {}}}, "elsewhere": {"secret": {}}})
    seen = []
    walking = walk(top, live=live)
    try:
        for folder in walking:
            seen.append(folder.path)
            if folder.path == b"a/b":
                (top / "a/b").rename(elsewhere / "b")
    except OSError:
        assert not live
    else:
        assert live
    assert seen == [b"", b"a", b"a/b"]


def test_a_layer_deeper_than_a_path_is_long(tmp_path: Path) -> None:
    diff = tmp_path / "diff"
    diff.mkdir()
    deepen(diff)
    try:
        out = io.BytesIO()
        packed = pack(diff, [], out, privileged=PRIVILEGED, record=tmp_path)
        assert packed.entries == DEPTH + 2
        index = {entry.path: entry for entry in read_index(tmp_path / "index")}
        assert list(compare(diff, index)) == []
        again = io.BytesIO()
        assert assemble(tmp_path, again).diff_id == packed.diff_id
        assert again.getvalue() == out.getvalue()
    finally:
        remove_tree(diff)  # which pytest cannot
