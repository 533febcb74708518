"""What `user.pyunion.*` answers."""

from __future__ import annotations

import errno
import json
from functools import partial
from pathlib import Path

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.unions import errno_of
from unionfs.core.config import WhiteoutForm


def ask(tree: CoreDriver, path: bytes, what: str, space: str = "user") -> str:
    return tree.getxattr(path, f"{space}.pyunion.{what}").decode()


def test_where_things_come_from(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"top": "1", "both": "1"}}, {"d": {"low": "2", "both": "2"}})
    one, two = map(str, layers.lowers)
    upper = str(layers.upper)
    with layers.union() as tree:
        assert ask(tree, b"d/low", "layer") == two
        assert ask(tree, b"d/low", "path") == "d/low"
        assert ask(tree, b"d/both", "fullpath") == f"{one}/d/both"
        assert ask(tree, b"d/both", "layers").split("\n") == [f"{one}/d/both", f"{two}/d/both"]
        assert ask(tree, b"d", "layers").split("\n") == [f"{one}/d", f"{two}/d"]
        tree.chmod(b"d/both", 0o600)
        assert ask(tree, b"d/both", "layer") == upper
        assert ask(tree, b"d", "layers").split("\n") == [f"{upper}/d", f"{one}/d", f"{two}/d"]
        tree.rename(b"d", b"e", 0)
        assert ask(tree, b"e/low", "path") == "d/low"
        assert ask(tree, b"e", "fullpath") == f"{upper}/e"
        tree.symlink(b"to", b"link")
        assert ask(tree, b"link", "layer", "trusted") == upper


def test_the_root_tells_of_the_mount(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"file": ""}, {})
    with layers.union() as tree:
        stack = [str(layers.upper), *map(str, layers.lowers)]
        assert ask(tree, b"", "stack").split("\n") == stack
        assert ask(tree, b"", "layers").split("\n") == stack
        assert ask(tree, b"", "path") == ""
        assert ask(tree, b"", "fullpath") == str(layers.upper)
        assert json.loads(ask(tree, b"", "counters"))["directories"] == 1
        for what in ("stack", "counters", "nothing"):
            assert errno_of(partial(ask, tree, b"file", what)) == errno.ENODATA


def test_they_are_neither_listed_nor_set(tmp_path: Path) -> None:
    with Layers(tmp_path, {"file": ""}).union() as tree:
        assert tree.listxattr(b"file") == []
        name = "user.pyunion.layer"
        assert errno_of(lambda: tree.setxattr(b"file", name, b"x", 0)) == errno.EPERM
        assert errno_of(lambda: tree.removexattr(b"file", name)) == errno.EPERM


def test_a_whiteout_in_between_ends_the_places_of_a_name(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"d": {"name": "x"}})
    for form in (WhiteoutForm.XATTR, WhiteoutForm.AUFS, WhiteoutForm.CHAR):
        with layers.union(whiteout=form) as tree:
            tree.unlink(b"d/name")
        layers.upper.rename(tmp_path / form.value)
        layers.upper.mkdir()
        layers.lowers.insert(0, tmp_path / form.value)
        with layers.union(whiteout=form) as tree:
            tree.create(b"d/name", 0o600)
            assert ask(tree, b"d/name", "layers") == f"{layers.upper}/d/name"
        (layers.upper / "d/name").unlink()
        (layers.upper / "d").rmdir()
        layers.lowers.pop(0)
