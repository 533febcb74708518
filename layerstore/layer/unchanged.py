"""Find and remove unchanged copies in a layer, for `commit --prune-unchanged`.

A file that was opened for writing and not changed, or changed and changed back,
is in the upper all the same.  It is unchanged if size, time, mode, owner,
attributes and the xxh3 of its content are those of the lower file.  A directory is
unchanged if nothing is left in it.  In a directory that hides the lower one everything
stays, since the lower files do not show there.

They are removed only from a layer that is not in use, because a mount would miss the
files.  If the layer is mounted, the image gets a copy of it without them
(`layerstore.operations.commit`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from layerstore.diff.changes import ChangeWalk
from layerstore.diff.union import UnionFiles
from layerstore.layer.holes import digest_fd
from unionfs.syscalls import xattr
from unionfs.types import Attr


def find_unchanged(diff: Path, lowers: Sequence[Path]) -> frozenset[bytes]:
    """Return the paths in the layer `diff` that can be removed: it then shows the same."""
    same: set[bytes] = set()
    folders: list[bytes] = []
    needed: set[bytes] = set()
    hiding = {b""} if _hides(os.listxattr(diff)) else set()
    with ChangeWalk(diff, lowers) as walk:
        before = walk.before
        if before is None:
            return frozenset()
        for found in walk:
            if found.attr is not None and found.own is not None:
                folder = stat.S_ISDIR(found.attr.st.st_mode)
                if folder and _hides(xattr.list_at(found.own, found.name)):
                    hiding.add(found.path)
                old = before.find(found.path) if found.kind == "C" else None
                if (
                    old is not None
                    and not (hiding and _is_within(found.path, hiding))
                    and _same_look(walk.after, found.attr, before, old)
                ):
                    if folder:
                        folders.append(found.path)
                        continue
                    if _same_content(walk.after, before, found.path, found.attr):
                        same.add(found.path)
                        continue
            _need_above(found.path, needed)
    return frozenset(same.union(path for path in folders if path not in needed))


def _hides(names: Sequence[str]) -> bool:
    """Tell whether a directory with attributes of these names hides what lies beneath it."""
    return any(name.endswith(("overlay.opaque", "overlay.redirect")) for name in names)


def _is_within(path: bytes, folders: set[bytes]) -> bool:
    """Tell whether `path` is one of `folders` or lies beneath one."""
    while path not in folders:
        if not path:
            return False
        path = path.rpartition(b"/")[0]
    return True


def _need_above(path: bytes, needed: set[bytes]) -> None:
    """Add the directories that lead to `path` to `needed`."""
    while path := path.rpartition(b"/")[0]:
        if path in needed:
            return
        needed.add(path)


def drop_unchanged(diff: Path, lowers: Sequence[Path]) -> int:
    """Remove what is the same in the `lowers` from the layer `diff`; return how many files."""
    dropped = 0
    times: dict[bytes, os.stat_result] = {}
    for path in sorted(find_unchanged(diff, lowers), reverse=True):
        full = os.fsencode(diff) + b"/" + path
        above = full.rpartition(b"/")[0]
        times.setdefault(above, os.stat(above))
        if not stat.S_ISDIR(os.lstat(full).st_mode):
            os.unlink(full)
            dropped += 1
        else:
            # A directory that is not empty stays, even if it has only whiteouts.
            with suppress(OSError):
                os.rmdir(full)
    for above, st in times.items():
        with suppress(FileNotFoundError):
            os.utime(above, ns=(st.st_atime_ns, st.st_mtime_ns))
    return dropped


def _same_look(after: UnionFiles, new: Attr, before: UnionFiles, old: Attr) -> bool:
    is_dir = stat.S_ISDIR(new.st.st_mode)
    if not is_dir and (new.st.st_nlink > 1 or old.st.st_nlink > 1):
        return False  # the names of one file would become those of two, or the reverse

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
    with after.open(path) as one, before.open(path) as other:
        return digest_fd(one.fileno()) == digest_fd(other.fileno())
