"""Trees put right by their index."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore.layer.index import IndexEntry, compare, scan
from layerstore.layer.mend import put_right
from tests.helpers.mounts import require_root

Index = dict[bytes, IndexEntry]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "diff"
    (top / "bin").mkdir(parents=True)
    (top / "bin" / "tool").write_text("#!")
    (top / "bin" / "tool").chmod(0o4755)
    os.setxattr(top / "bin" / "tool", "user.kept", b"1")
    (top / "empty").mkdir(mode=0o750)
    (top / "link").symlink_to("bin/tool")
    (top / "nested" / "deeper").mkdir(parents=True)
    (top / "nothing").touch(0o640)
    os.mkfifo(top / "fifo")
    os.mknod(top / "whiteout", stat.S_IFCHR, os.makedev(0, 0))
    for path in (*sorted(top.rglob("*"), reverse=True), top):
        os.utime(path, ns=(5, 7), follow_symlinks=False)
    return top


@pytest.fixture
def index(tree: Path) -> Index:
    return {entry.path: entry for entry in scan(tree)}


def retime_all(tree: Path) -> None:
    """As a copy without -a does."""
    for path in (tree, *tree.rglob("*")):
        os.utime(path, follow_symlinks=False)


def change_attributes(tree: Path) -> None:
    tool = tree / "bin" / "tool"
    tool.chmod(0o600)
    os.setxattr(tool, "user.kept", b"2")
    os.setxattr(tool, "user.added", b"2")
    (tree / "empty").chmod(0o777)


def lose_owners(tree: Path) -> None:
    require_root()
    for name in ("bin/tool", "link", "empty"):
        os.chown(tree / name, 1234, 4321, follow_symlinks=False)


def add(tree: Path) -> None:
    (tree / "bin" / "added").write_text("by somebody")
    (tree / "new" / "below").mkdir(parents=True)
    (tree / "new" / "below" / "file").touch()
    (tree / "new-not-below").touch()


def lose_what_is_empty(tree: Path) -> None:
    """As a backup of files alone does."""
    for name in ("empty", "nested/deeper", "nested"):
        (tree / name).rmdir()
    for name in ("link", "nothing", "fifo"):
        (tree / name).unlink()


def lose_whiteouts(tree: Path) -> None:
    (tree / "whiteout").unlink()


DAMAGES = [
    *(retime_all, change_attributes, lose_owners, add),
    *(lose_what_is_empty, lose_whiteouts),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_an_index_knows_is_restored(
    tree: Path, index: Index, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(tree)
    assert list(compare(tree, index))
    assert put_right(tree, index, tmp_path / "aside")
    assert list(compare(tree, index)) == []
    moved = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("aside/**/*"))
    if damage is add:
        assert (tmp_path / "aside" / "bin" / "added").read_text() == "by somebody"
        assert moved == [
            *("aside/bin", "aside/bin/added", "aside/new", "aside/new-not-below"),
            *("aside/new/below", "aside/new/below/file"),
        ]
    else:
        assert moved == []


def lose(tree: Path) -> None:
    (tree / "bin" / "tool").unlink()


def rewrite(tree: Path) -> None:
    (tree / "bin" / "tool").write_text("!#")


def replace(tree: Path) -> None:
    (tree / "empty").rmdir()
    (tree / "empty").touch()


def lead_elsewhere(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("/etc/passwd")


@pytest.mark.parametrize("damage", [lose, rewrite, replace, lead_elsewhere, lambda tree: None])
def test_nothing_is_changed_if_content_is_lost(
    tree: Path, index: Index, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(tree)
    if damage in (lose, rewrite):
        (tree / "empty").chmod(0o705)
    before = list(compare(tree, index))
    assert not put_right(tree, index, tmp_path / "aside")
    assert list(compare(tree, index)) == before and not (tmp_path / "aside").exists()
