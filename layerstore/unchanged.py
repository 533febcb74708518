"""Copies that changed nothing: found in a layer and dropped, as `commit --prune-unchanged` asks.

A file that was opened for writing and left as it was, or changed and changed
back, lies in the upper all the same.  It is unchanged where size, time, mode,
owner and attributes are those of the file beneath and the content is too, by
its xxh3; a directory, where nothing is left in it.

Nobody may be using the layer, so a mounted container is refused.  Its mount has
the frozen upper as its topmost lower: what vanished from it would be missing for
every inode that the kernel knows by a name in there.  Nor can it keep that upper
and the image have a pruned clone of it, to which the container would come at its
next mount.  Hard links show a second link meanwhile, and where such a file is
copied up the index takes the wrong count along for good; copies or reflinks have
another st_ino, which is not to change over a remount.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import xxhash

from layerstore.changes import ChangeWalk
from layerstore.union_files import UnionFiles
from unionfs.types import Attr

_CHUNK = 1 << 20


def drop_unchanged(diff: Path, lowers: Sequence[Path]) -> int:
    """Remove from the layer `diff` what it holds as the `lowers` do; return how many files."""
    same: list[bytes] = []
    folders: list[bytes] = []
    with ChangeWalk(diff, lowers) as walk:
        before = walk.before
        if before is None:
            return 0
        for found in walk:
            if found.kind != "C" or found.attr is None or found.own is None:
                continue
            old = before.find(found.path)
            if old is None or not _same_look(walk.after, found.attr, before, old):
                continue
            if stat.S_ISDIR(found.attr.st.st_mode):
                folders.append(found.path)
            elif _same_content(walk.after, before, found.path, found.attr):
                same.append(found.path)
    for path in same:
        os.unlink(os.fsencode(diff) + b"/" + path)
    for path in reversed(folders):
        # What still holds something, whiteouts included, or hides by its marks, stays.
        full = os.fsencode(diff) + b"/" + path
        if not any(name.endswith(("overlay.opaque", "overlay.redirect")) for name in _marks(full)):
            with suppress(OSError):
                os.rmdir(full)
    return len(same)


def _marks(path: bytes) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


def _same_look(after: UnionFiles, new: Attr, before: UnionFiles, old: Attr) -> bool:
    is_dir = stat.S_ISDIR(new.st.st_mode)

    def look(attr: Attr) -> tuple[int, ...]:
        st = attr.st
        size = 0 if is_dir else st.st_size
        return st.st_mode, attr.st_uid, attr.st_gid, st.st_rdev, size, st.st_mtime_ns

    if look(new) != look(old):
        return False
    return sorted(after.xattrs(new.nodeid)) == sorted(before.xattrs(old.nodeid))


def _same_content(after: UnionFiles, before: UnionFiles, path: bytes, new: Attr) -> bool:
    if stat.S_ISLNK(new.st.st_mode):
        old = before.find(path)
        return old is not None and after.fs.readlink(new.nodeid) == before.fs.readlink(old.nodeid)
    if not stat.S_ISREG(new.st.st_mode):
        return True
    if new.st.st_nlink > 1:
        return False  # its other names would lose it
    with after.open(path) as one, before.open(path) as other:
        return _digest(one) == _digest(other)


def _digest(file: BinaryIO) -> str:
    hasher = xxhash.xxh3_128()
    while piece := file.read(_CHUNK):
        hasher.update(piece)
    return hasher.hexdigest()
