"""Put the tree of a layer right by its index, if no content of it is lost.

Decided here and only here: what an index can restore: owners, modes, times and extended
attributes, as a copy of a store can lose them.  What is not in the index is moved away.

Threading: any thread; nothing else changes the tree meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from layerstore.layer.index import IndexEntry, as_comparable, scan


def put_right(diff: Path, index: Mapping[bytes, IndexEntry], aside: Path) -> bool:
    """Undo the differences of the tree `diff` from `index`; tell whether there were such.

    What is not in the index is moved to the same path beneath `aside`, which is made.  Nothing
    is changed, and False returned, if a path is missing or is another file, or has other
    content.  Raises the OSError of a change that is not allowed.
    """
    found = {entry.path: entry for entry in scan(diff, wanted=index)}
    if not index.keys() <= found.keys():
        return False
    comparable = as_comparable()
    changed = [
        (entry, index[path])
        for path, entry in found.items()
        if path in index and comparable(entry) != comparable(index[path])
    ]
    if not all(_is_same_file(entry, wanted) for entry, wanted in changed):
        return False
    strays = _topmost(found.keys() - index.keys())
    if not changed and not strays:
        return False
    top = os.fsencode(diff)
    for path in strays:
        target = os.path.join(os.fsencode(aside), path)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        os.rename(os.path.join(top, path), target)
    for entry, wanted in changed:
        owner = comparable(entry)[2:4] != comparable(wanted)[2:4]
        _restore(os.path.join(top, entry.path), entry, wanted, owner=owner)
    # Last, since the moves above have changed the times of directories.
    for path in {entry.path for entry, _ in changed} | {os.path.dirname(path) for path in strays}:
        time = index[path].mtime_ns
        os.utime(os.path.join(top, path), ns=(time, time), follow_symlinks=False)
    return True


def _is_same_file(entry: IndexEntry, wanted: IndexEntry) -> bool:
    """Tell whether the two differ at most in what can be restored."""
    same = entry._replace(
        mode=stat.S_IFMT(entry.mode) | stat.S_IMODE(wanted.mode),
        uid=wanted.uid,
        gid=wanted.gid,
        mtime_ns=wanted.mtime_ns,
        xattrs=wanted.xattrs,
    )
    return same == wanted


def _topmost(paths: set[bytes]) -> list[bytes]:
    """Return those of `paths` that are beneath no other of them."""
    found: list[bytes] = []
    for path in sorted(paths, key=lambda path: path.split(b"/")):
        if not found or not path.startswith(found[-1] + b"/"):
            found.append(path)
    return found


def _restore(place: bytes, entry: IndexEntry, wanted: IndexEntry, *, owner: bool) -> None:
    """Give the file at `place` owner, attributes and mode; a chown takes the last two away."""
    if owner:
        os.chown(place, wanted.uid, wanted.gid, follow_symlinks=False)
    kept = dict(wanted.xattrs)
    for name, _ in entry.xattrs:
        if name not in kept:
            os.removexattr(place, name, follow_symlinks=False)
    for name, value in wanted.xattrs:
        os.setxattr(place, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(wanted.mode):
        os.chmod(place, stat.S_IMODE(wanted.mode))
