"""The tree that a mount shows, for comparisons."""

from __future__ import annotations

import os
from pathlib import Path

from tests.helpers import trees
from tests.helpers.drivers import OsDriver


def look(root: Path, *, d_ino: bool = True) -> trees.Tree:
    """Return the tree at `root`."""
    return trees.snapshot(OsDriver(root), d_ino=d_ino)


def contents(root: Path) -> dict[str, str | None]:
    """Return the content of every file beneath `root`, None for a directory."""
    found: dict[str, str | None] = {}
    for path, thing in look(root).items():
        if path:
            is_dir = thing.mode & 0o170000 == 0o040000
            found[os.fsdecode(path)] = None if is_dir else thing.content.decode()
    return found
