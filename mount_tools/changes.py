"""What an upper changed: one letter and one path for each name it adds, changes or deletes.

Decided here and only here: what counts as a change.  How whiteouts, opaque
marks and redirects look is the core's to know; here two read-only unions are
compared, the lowers alone and the lowers with the upper on top, so every form
the core reads is read here too, and nothing outside the layers is followed.

The letters are those of `docker diff`:

- A: the path is new.  So is every path beneath a directory that is new or was
  renamed to there.
- C: the path was there and the upper holds it too, whatever in it differs; so a
  directory is C when something beneath it is A, C or D.
- D: the path is gone, by a whiteout or beneath an opaque directory.  A
  directory that is gone is one D, without its content.

Only directories the upper holds are read, so the cost goes with the size of the
change and not with that of the layers.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Literal, NamedTuple

from unionfs.core.config import UnionConfig
from unionfs.core.union import open_union
from unionfs.types import ROOT_NODEID, Attr
from unionfs.vfs import Filesystem


class Change(NamedTuple):
    """One changed path, absolute in the union."""

    kind: Literal["A", "C", "D"]
    path: bytes


def changes(upper: bytes, lowers: Sequence[bytes]) -> list[Change]:
    """Return what `upper` changes of `lowers`, topmost first, in the order of a sorted walk.

    Raises ConfigError where a layer cannot be opened, OSError where one cannot be read.
    """
    with (
        closing(open_union(UnionConfig(lowers=tuple(lowers)))) as before,
        closing(open_union(UnionConfig(lowers=(upper, *lowers)))) as after,
    ):
        return list(_compare(before, ROOT_NODEID, after, ROOT_NODEID, b"/"))


def _compare(
    before: Filesystem, old_dir: int | None, after: Filesystem, new_dir: int, path: bytes
) -> Iterator[Change]:
    """Compare directory `new_dir` with `old_dir`, or with nothing where that is None."""
    new_names = _names(after, new_dir)
    old_names = set() if old_dir is None else _names(before, old_dir)
    for name in sorted(new_names | old_names):
        here = path + name
        if name not in new_names:
            yield Change("D", here)
            continue
        new = after.lookup(new_dir, name)
        old = before.lookup(old_dir, name) if old_dir is not None and name in old_names else None
        if new is None or (old is not None and _same_file(new, old)):
            continue
        yield Change("A" if old is None else "C", here)
        if stat.S_ISDIR(new.st.st_mode):
            merged = old is not None and stat.S_ISDIR(old.st.st_mode)
            below = old.nodeid if old is not None and merged else None
            yield from _compare(before, below, after, new.nodeid, here + b"/")


def _names(union: Filesystem, nodeid: int) -> set[bytes]:
    fh = union.opendir(nodeid)
    try:
        return {entry.name for entry in union.readdir(fh, 0)} - {b".", b".."}
    finally:
        union.releasedir(fh)


def _same_file(new: Attr, old: Attr) -> bool:
    """Tell whether the same real inode stands at the top on both sides, so not in the upper."""
    return (new.st.st_dev, new.st.st_ino) == (old.st.st_dev, old.st.st_ino)
