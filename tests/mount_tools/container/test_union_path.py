"""Paths in a union that nobody has mounted: links, `..`, and what is not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mount_tools.container.union_path import walk
from tests.helpers.layers import Layers
from tests.helpers.unions import core, nodeid
from unionfs.types import Attr, NodeId


@pytest.mark.parametrize(
    ("path", "follow_last", "wanted"),
    [
        (b"/usr/bin/new", False, b"usr/bin/new"),
        (b"bin/new", False, b"usr/bin/new"),
        (b"/../up/./bin//new", False, b"usr/bin/new"),
        (b"bin", False, b"bin"),
        (b"bin", True, b"usr/bin"),
        (b"loop", False, b"loop"),
        (b"loop", True, None),
        (b"usr/nope/new", True, None),
    ],
)
def test_where_a_path_leads(
    tmp_path: Path, path: bytes, follow_last: bool, wanted: bytes | None
) -> None:
    layers = Layers(tmp_path, {"usr": {"bin": {"new": "1"}}})
    for name, target in (("bin", "usr/bin"), ("up", "/../usr"), ("loop", "loop")):
        os.symlink(target, layers.lowers[0] / name)
    with layers.union() as tree:

        def look(parent: NodeId, name: bytes, last: bool) -> Attr | None:
            assert last or name != b"new", "the name at the end is the last"
            found = tree.fs.lookup(parent, name)
            if found is not None:
                tree.lookups[found.nodeid] += 1
            return found

        found = walk(core(tree), path, look, follow_last=follow_last)
        assert found == (None if wanted is None else nodeid(tree, wanted))
