"""Put the tree of a layer right by its index, if no content of it is lost.

Decided here and only here: what an index can restore: owners, modes, times and extended
attributes, and empty directories, links and whiteouts, as a copy of a store can lose them.
What is not in the index is moved away.

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

    What is missing and has no content is made again.  What is not in the index is moved to the
    same path beneath `aside`, which is made.  Nothing is changed, and False returned, if content
    is missing or has changed, or if a path is of another type.  Raises the OSError of a change
    that is not allowed.
    """
    found = {entry.path: entry for entry in scan(diff, wanted=index)}
    comparable = as_comparable()
    lost = sorted(index.keys() - found.keys())
    strays = _topmost(found.keys() - index.keys())
    changed = [
        (entry, index[path])
        for path, entry in found.items()
        if path in index and comparable(entry) != comparable(index[path])
    ]
    whole = all(_is_same_file(entry, wanted) for entry, wanted in changed)
    if not whole or any(index[path].size for path in lost):
        return False
    if not changed and not strays and not lost:
        return False
    top = os.fsencode(diff)
    for path in strays:
        target = os.path.join(os.fsencode(aside), path)
        make_private(Path(os.fsdecode(os.path.dirname(target))))
        os.rename(os.path.join(top, path), target)
    changed += [(_made(os.path.join(top, path), index[path]), index[path]) for path in lost]
    for entry, wanted in changed:
        owner = comparable(entry)[2:4] != comparable(wanted)[2:4]
        _restore(os.path.join(top, entry.path), entry, wanted, owner=owner)
    # Last, since what is moved and made changes the times of directories.
    timed = {os.path.dirname(path) for path in [*strays, *lost]}
    for path in timed | {entry.path for entry, _ in changed}:
        time = index[path].mtime_ns
        os.utime(os.path.join(top, path), ns=(time, time), follow_symlinks=False)
    return True


def make_private(directory: Path) -> None:
    """Make `directory`, and those above it that are missing, all of them closed to others."""
    if not directory.is_dir():
        make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _made(place: bytes, wanted: IndexEntry) -> IndexEntry:
    """Make `wanted`, which has no content, at `place`; return it as it is then."""
    if stat.S_ISDIR(wanted.mode):
        os.mkdir(place, 0o700)
    elif stat.S_ISLNK(wanted.mode):
        os.symlink(wanted.target, place)
    else:
        os.mknod(place, stat.S_IFMT(wanted.mode) | 0o600, wanted.rdev)
    st = os.lstat(place)
    return wanted._replace(mode=st.st_mode, uid=st.st_uid, gid=st.st_gid, xattrs=())


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
