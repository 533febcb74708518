"""Directories of a layer are reached beneath its root, and made where they are missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore.errors import InvalidImage, UnsafePath
from layerstore.layer.tree import Folder, LayerTree

made: list[bytes] = []


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[LayerTree]:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    made.clear()
    with LayerTree(tmp_path / "root", made.append) as tree:
        yield tree


def where(folder: Folder) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{folder.fd}"))


def test_missing_directories_are_made_and_told_once(tree: LayerTree, tmp_path: Path) -> None:
    folder = tree.folder(b"a/b/c")
    assert (folder.path, where(folder)) == (b"a/b/c", tmp_path / "root/a/b/c")
    assert folder.under(b"x") == b"a/b/c/x"
    assert tree.folder(b"").under(b"x") == b"x"
    assert tree.folder(b"a/b/c") is folder
    assert made == [b"a", b"a/b", b"a/b/c"]


def test_links_are_followed_within_the_root(tree: LayerTree, tmp_path: Path) -> None:
    tree.folder(b"usr/bin")
    (tmp_path / "root/bin").symlink_to("/usr/bin")
    (tmp_path / "root/up").symlink_to("../../usr")
    assert tree.folder(b"bin").path == b"usr/bin"
    assert tree.folder(b"up/bin/new").path == b"usr/bin/new"
    assert made[-1] == b"usr/bin/new"


@pytest.mark.parametrize("target", ["/none", "../outside", "loop"])
def test_a_link_to_nowhere_in_the_root_is_refused(
    tree: LayerTree, tmp_path: Path, target: str
) -> None:
    (tmp_path / "root/loop").symlink_to(target)
    with pytest.raises(UnsafePath):
        tree.folder(b"loop/x")
    assert tree.existing(b"loop/x") is None
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_file_is_no_directory(tree: LayerTree, tmp_path: Path) -> None:
    (tmp_path / "root/f").touch()
    os.mkfifo(tmp_path / "root/fifo")
    for name in (b"f", b"fifo"):
        with pytest.raises(InvalidImage, match="no directory"):
            tree.folder(name + b"/x")
        assert tree.existing(name) is None


def test_existing_makes_nothing(tree: LayerTree, tmp_path: Path) -> None:
    assert tree.existing(b"a/b") is None
    assert list((tmp_path / "root").iterdir()) == []


def test_what_is_forgotten_is_looked_up_again(tree: LayerTree, tmp_path: Path) -> None:
    tree.folder(b"a")
    os.rename(tmp_path / "root/a", tmp_path / "root/b")
    tree.forget()
    assert where(tree.folder(b"a")) == tmp_path / "root/a"


def test_more_directories_than_are_kept_open(tree: LayerTree, tmp_path: Path) -> None:
    for number in range(600):
        assert where(tree.folder(b"%d" % number)).name == str(number)
    assert len(os.listdir("/proc/self/fd")) < 400
