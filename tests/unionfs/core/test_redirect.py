"""Redirects and the places of data: relative and absolute, nested, in data-only layers."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.layers import Layers
from tests.helpers.unions import errno_of, fill
from unionfs.core.redirect import split_redirect

REDIRECT = "trusted.overlay.redirect"
DATA = "the data " * 500


def redirect(path: Path, to: bytes) -> None:
    os.setxattr(path, REDIRECT, to)


def metacopy(path: Path, to: bytes | None, size: int = len(DATA)) -> None:
    """Make a metacopy as overlayfs or composefs does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size)
    os.setxattr(path, "trusted.overlay.metacopy", b"")
    if to is not None:
        redirect(path, to)


@pytest.mark.parametrize(
    ("value", "absolute", "names"),
    [
        (b"name", False, [b"name"]),
        (b"/a/b", True, [b"a", b"b"]),
        (b"/a\0", True, [b"a"]),
    ],
)
def test_values_that_lead_somewhere(value: bytes, absolute: bool, names: list[bytes]) -> None:
    assert split_redirect(value) == (absolute, names)


@pytest.mark.parametrize("value", [b"", b"/", b"a/b", b"/a//b", b"/../a", b".", b"..", b"/a/"])
def test_values_that_lead_nowhere_are_inconsistent(value: bytes) -> None:
    assert errno_of(lambda: split_redirect(value)) == errno.EIO


@pytest.mark.parametrize("where", ["upper", "lower"])
@pytest.mark.parametrize("to", [b"old", b"/p/old"])
def test_directories(tmp_path: Path, where: str, to: bytes) -> None:
    layers = Layers(tmp_path, {}, {"p": {"old": {"file": "x", "sub": {"deep": "y"}}}})
    layer = layers.upper if where == "upper" else layers.lowers[0]
    fill(layer, {"p": {"new": {"sub": {"mine": "z"}}, "old": None}})
    redirect(layer / "p/new", to)
    with layers.union() as tree:
        assert tree.read(b"p/new/file") == b"x"
        assert {entry.name for entry in tree.listdir(b"p/new/sub")} == {b"deep", b"mine"}
        assert tree.listxattr(b"p/new") == []
        tree.chmod(b"p/new/sub/deep", 0o600)
        tree.rename(b"p/new/sub", b"sub", 0)
    assert layers.look()[b"sub/deep"].content == b"y"


def test_a_redirect_goes_on_through_the_redirects_beneath(tmp_path: Path) -> None:
    layers = Layers(
        tmp_path,
        {"three": {"f3": ""}, "two": None},
        {"two": {"f2": ""}, "one": None},
        {"one": {"f1": ""}},
    )
    redirect(layers.lowers[0] / "three", b"/two")
    redirect(layers.lowers[1] / "two", b"one")
    seen = layers.look()
    assert set(seen) == {b"", b"three", b"three/f1", b"three/f2", b"three/f3"}


def test_a_bad_redirect_is_an_error_of_that_directory_only(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"bad": {}, "good": "x"}, {"bad": {"file": ""}})
    redirect(layers.lowers[0] / "bad", b"../..")
    with layers.union() as tree:
        assert errno_of(lambda: tree.listdir(b"bad")) == errno.EIO
        assert tree.read(b"good") == b"x"


def test_a_redirect_never_leaves_its_layer_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside/secret").mkdir(parents=True)
    layers = Layers(tmp_path, {"d": {}}, {})
    (layers.lowers[1] / "link").symlink_to(tmp_path / "outside")
    redirect(layers.lowers[0] / "d", b"/link/secret")
    with layers.union() as tree:
        assert tree.listdir(b"d") == []


@pytest.mark.parametrize("to", [None, b"/p/old", b"old"])
def test_the_data_of_a_metacopy(tmp_path: Path, to: bytes | None) -> None:
    layers = Layers(tmp_path, {}, {"p": {"new": DATA} if to is None else {"old": DATA}})
    metacopy(layers.lowers[0] / "p/new", to)
    with layers.union() as tree:
        assert tree.read(b"p/new") == DATA.encode()
        assert tree.lstat(b"p/new").size == len(DATA)
        assert tree.listxattr(b"p/new") == []
        tree.append(b"p/new", b"!")
    assert layers.look()[b"p/new"].content == DATA.encode() + b"!"


class DataOnly:
    """A lower of metacopies over another of the same, and a data-only layer."""

    def __init__(self, base: Path) -> None:
        self.layers = Layers(base, {}, {})
        self.data = base / "data"
        self.data.mkdir()
        fill(self.data, {"ab": {"cdef": DATA}, "visible": "no"})

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"data": (os.fsencode(self.data),), **more}


@pytest.fixture
def data_only(tmp_path: Path) -> DataOnly:
    return DataOnly(tmp_path)


def test_a_data_only_layer_gives_data_and_shows_nothing(data_only: DataOnly) -> None:
    metacopy(data_only.layers.lowers[1] / "file", b"/ab/cdef")
    seen = data_only.layers.look(**data_only.settings())
    assert set(seen) == {b"", b"file"}
    assert seen[b"file"].content == DATA.encode()


def test_a_data_only_layer_is_reached_through_a_metacopy_above(data_only: DataOnly) -> None:
    metacopy(data_only.layers.lowers[1] / "file", b"/ab/cdef")
    metacopy(data_only.layers.lowers[0] / "file", None)
    seen = data_only.layers.look(**data_only.settings())
    assert seen[b"file"].content == DATA.encode()


@pytest.mark.parametrize("on", [True, False], ids=["metacopy", "whole"])
def test_a_file_of_a_data_only_layer_is_copied_up(data_only: DataOnly, on: bool) -> None:
    layers, settings = data_only.layers, data_only.settings(metacopy=on)
    metacopy(layers.lowers[0] / "file", b"/ab/cdef")
    with layers.union(**settings) as tree:
        tree.chmod(b"file", 0o600)
        assert tree.read(b"file") == DATA.encode()
        marks = os.listxattr(layers.upper / "file")
        assert ("trusted.overlay.metacopy" in marks) is on
    assert layers.look(**settings)[b"file"].content == DATA.encode()
    with layers.union(**settings) as tree:
        tree.rename(b"file", b"moved", 0)
    assert layers.look(**settings)[b"moved"].content == DATA.encode()
    with layers.union(**settings) as tree:
        tree.append(b"moved", b"!")
    assert layers.look(**settings)[b"moved"].content == DATA.encode() + b"!"


def test_relative_redirects_do_not_reach_data_only_layers(data_only: DataOnly) -> None:
    metacopy(data_only.layers.lowers[1] / "visible", None, 2)
    with data_only.layers.union(**data_only.settings()) as tree:
        assert errno_of(lambda: tree.lstat(b"visible")) == errno.EIO
