"""The store looks into a union of layers without a mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore.diff.union import UnionFiles, open_node
from layerstore.errors import LayerUnreadable
from tests.helpers.unions import fill


@pytest.fixture
def stack(tmp_path: Path) -> list[Path]:
    top, base = tmp_path / "top", tmp_path / "base"
    for path in (top, base):
        path.mkdir()
    fill(base, {"d": {"a": "old", "b": "b"}, "f": "file"})
    fill(top, {"d": {"a": "new", "c": "c"}})
    return [top, base]


def test_the_topmost_is_found(stack: list[Path]) -> None:
    with UnionFiles(stack) as union:
        with union.open(b"d/a") as file:
            assert file.read() == b"new"
        found = union.find(b"d")
        assert found is not None
        assert union.names(found.nodeid) == [b"a", b"b", b"c"]
        assert union.find(b"") is not None
        file_found = union.find(b"f")
        assert file_found is not None
        with open(open_node(union.fs, file_found.nodeid), "rb") as opened:
            assert opened.read() == b"file"
        union.release(file_found)


@pytest.mark.parametrize("path", [b"none", b"none/x", b"f/x", b"d/none"])
def test_what_is_absent(stack: list[Path], path: bytes) -> None:
    with UnionFiles(stack) as union:
        assert union.find(path) is None
        with pytest.raises(FileNotFoundError):
            union.open(path)


def test_attributes_a_user_sees(stack: list[Path]) -> None:
    os.setxattr(stack[1] / "f", "user.x", b"1")
    with UnionFiles(stack) as union:
        found = union.find(b"f")
        assert found is not None and union.xattrs(found.nodeid) == [(b"user.x", b"1")]


def test_attributes_that_go_while_they_are_read(
    stack: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process in a container can remove them, whose filesystem is exported."""
    os.setxattr(stack[1] / "f", "user.x", b"1")
    with UnionFiles(stack) as union:
        found = union.find(b"f")
        assert found is not None
        monkeypatch.setattr(union.fs, "listxattr", lambda _: [b"user.gone", b"user.x"])
        assert union.xattrs(found.nodeid) == [(b"user.x", b"1")]


def test_layers_that_are_no_directories(stack: list[Path], tmp_path: Path) -> None:
    with pytest.raises(LayerUnreadable, match="cannot be read as one tree"):
        UnionFiles([stack[0], tmp_path / "base/f"])
