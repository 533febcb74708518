"""A union whose upper is frozen again and again, and the stack that it is to have then."""

from __future__ import annotations

import os
from pathlib import Path

from tests.helpers.core_driver import CoreDriver
from tests.helpers.layers import Layers
from tests.helpers.trees import Tree, assert_same, snapshot
from tests.helpers.unions import Content, core

STACK: Content = {
    "etc": {"passwd": "root", "group": "wheel", "d": {"a": "1", "b": "2"}},
    "bin": {"sh": "shell"},
    "old": "old",
}


class Frozen:
    """A union to freeze, and the stack it is to have afterwards."""

    def __init__(self, layers: Layers, tree: CoreDriver) -> None:
        self.layers = layers
        self.tree = tree
        self.count = 0

    def freeze(self, *, ahead: bool = False) -> Path:
        to = self.layers.base / f"frozen{self.count}"
        self.result = core(self.tree).freeze(os.fsencode(to), ahead=ahead)
        self.count += 1
        self.layers.lowers.insert(0, to)
        return to


def inos(tree: Tree) -> dict[bytes, int]:
    return {path: thing.ino for path, thing in tree.items()}


def check_reopened(union: Frozen) -> None:
    """The stack, opened afresh, shows what the live union does, by the same st_ino."""
    live = snapshot(union.tree)
    union.tree.finish()
    core(union.tree).close()
    again = union.layers.look()
    assert_same(live, again, "the stack opened afresh")
    assert inos(live) == inos(again)
