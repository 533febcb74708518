"""What the lowers have and the upper shows at another path, since it was renamed.

Decided here and only here: whether a path may be restored while that is so.  A renamed directory
has a redirect to its lower part, and a renamed file shows the st_ino of its origin.  Once the
lower part is shown at its own path again, both would be one file for find(1), cp(1), diff(1) and
flock(2).

So a file that was renamed loses its origin mark, and shows the st_ino of the upper file from then
on, here and after a remount.  A directory cannot: what is in it and was never copied up is
the lower's.  Then the restore is refused, and so for a file whose lock is kept by its st_ino.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Sequence

from unionfs.core.file_marks import origin_ino, origin_of
from unionfs.core.inode import Dir, File, Found, lower_ino, lower_position, union_ino
from unionfs.core.layer import RealDir
from unionfs.core.lookup import load_locked, lookup_locked
from unionfs.core.metadata import remove_mark
from unionfs.core.redirect import lower_names
from unionfs.core.state import State
from unionfs.core.whiteout import DT_DIR, INO_SHIFT, TYPE_MASK
from unionfs.light_typing import NamedTuple
from unionfs.types import ROOT_NODEID, StIno

Path = tuple[bytes, ...]

# How many paths an error names.
_NAMED = 3


class Copy(NamedTuple):
    """A renamed file, `name` in the upper directory `parent`, that shows its origin's st_ino."""

    parent: RealDir
    name: bytes
    node: File


class _Renamed(NamedTuple):
    """What the upper may show elsewhere: directories with lower parts, and copies, by st_ino."""

    dirs: list[tuple[Path, Dir]]
    copies: dict[StIno, list[tuple[Path, Copy]]]


class _Seen(NamedTuple):
    """What is shown again: each st_ino, and the number of the layer and path of directories."""

    inos: set[StIno]
    dirs: set[tuple[int, bytes]]


def still_shown(state: State, parent: Dir, path: Path, gone: Iterable[Path]) -> list[Copy]:
    """Return the copies that show what a restore of `path`, which is in `parent`, shows again.

    What is at or beneath `path` and the paths `gone` is not counted.  The gate is closed, and the
    caller holds no lock of a directory.  Raises EBUSY, with a sentence, if a directory shows it,
    or a copy that is locked.
    """
    with parent.lock:
        roots = list(_shown_again(state, parent, path[-1]))
    if not roots:
        return []
    renamed = _find_renamed(state, frozenset((path, *gone)))
    if not renamed.dirs and not renamed.copies:
        return []
    seen = _see(state, roots)
    dirs = [
        (other, tuple(lower_names(d)))
        for other, d in renamed.dirs
        if d.st_ino in seen.inos or any(_key(real) in seen.dirs for real in d.lowers)
    ]
    if dirs:
        raise _busy(sorted(dirs))
    found = [at for ino in seen.inos & renamed.copies.keys() for at in renamed.copies[ino]]
    used = [other for other, copy in found if state.is_locked(copy.node.st_ino)]
    if used:
        raise _locked(path, used)
    return [copy for _, copy in found]


def make_own(state: State, copy: Copy) -> None:
    """Let `copy` be a file of its own, which shows the st_ino of the upper file."""
    node = copy.node
    if state.marks.can_carry(node.kind):
        for mark in (state.marks.first_origin, state.marks.origin):
            remove_mark((copy.parent.fd(), copy.name), mark)
    node.st_ino = union_ino(copy.parent.layer, node.rino)


def _busy(found: list[tuple[Path, Path]]) -> OSError:
    dirs: list[tuple[Path, Path]] = []
    for other, was in found:
        if not dirs or other[: len(dirs[-1][0])] != dirs[-1][0]:  # it is not in the one before
            dirs.append((other, was))
    renamed = [f"{shown(was)} of the image to {shown(other)}" for other, was in dirs]
    what, them = ("it", "a copy of it") if len(dirs) == 1 else ("them", "copies of them")
    return OSError(
        errno.EBUSY,
        f"the container has renamed {_some(renamed)}: restore {_some([shown(o) for o, _ in dirs])} "
        f"in the same command, which removes {what}, or move {what} back, or put {them} there",
    )


def _locked(path: Path, used: list[Path]) -> OSError:
    others = _some([shown(other) for other in used])
    return OSError(
        errno.EBUSY,
        f"{others}, which the container has renamed and locked, comes from {shown(path)} of the "
        f"image: restore {others} in the same command, which removes it, or end the program",
    )


def _some(texts: list[str]) -> str:
    named, more = texts[:_NAMED], len(texts) - _NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def shown(names: Sequence[bytes]) -> str:
    """Return the path `names` as a message shows it."""
    return ascii(os.fsdecode(b"/" + b"/".join(names)))[1:-1]


def _shown_again(state: State, parent: Dir, name: bytes) -> Iterator[tuple[Dir, bytes]]:
    """Yield each name at or beneath `name` that the lowers have and the union does not show.

    The caller holds `parent.lock`.
    """
    loaded = load_locked(state, parent)
    packed = loaded.lower.get(name)
    found = loaded.find(name)
    if packed is None or found is Found.LOWER:
        return
    looked_up = None if found is Found.WHITED_OUT else lookup_locked(state, parent, name)
    if looked_up is None:
        yield parent, name
        return
    node = looked_up[0]
    try:
        if isinstance(node, File):
            if node.st_ino != _lower_st_ino(state, parent, name):
                yield parent, name
            return
        assert isinstance(node, Dir)
        with node.lock:
            below = load_locked(state, node)
            if packed & TYPE_MASK != DT_DIR or not node.lowers or node.redirect is not None:
                yield parent, name
                return
            for kid in [*below.whiteouts, *below.upper]:
                yield from _shown_again(state, node, kid)
    finally:
        state.table.forget(node.nodeid, 0)


class _Upper(NamedTuple):
    """A directory to go through, which is held.  `moved`: its lower part is at another path."""

    d: Dir
    path: Path
    moved: bool


def _find_renamed(state: State, gone: Collection[Path]) -> _Renamed:
    """Go through the upper, but not what is at or beneath the paths `gone`."""
    found = _Renamed([], {})
    table = state.table
    root = table.directory(ROOT_NODEID)
    table.hold(root)
    # Not recursive: an upper may be nested deeper than Python allows calls.
    waiting = [_Upper(root, (), moved=False)]
    try:
        while waiting:
            at = waiting.pop()
            try:
                with at.d.lock:
                    _find_in(state, at, gone, found, waiting)
            finally:
                table.forget(at.d.nodeid, 1)
    finally:
        for at in waiting:
            table.forget(at.d.nodeid, 1)
    return found


def _find_in(
    state: State, at: _Upper, gone: Collection[Path], found: _Renamed, waiting: list[_Upper]
) -> None:
    """Find what the upper has in one directory, and add those in it to `waiting`."""
    d = at.d
    loaded, upper = load_locked(state, d), d.upper
    if upper is None:
        return
    for name, packed in list(loaded.upper.items()):
        path = (*at.path, name)
        if path in gone:
            continue
        if packed & TYPE_MASK != DT_DIR and not (d.lowers or d.impure or name in d.kids):
            continue  # as in a listing: it is no copy
        looked_up = lookup_locked(state, d, name)
        if looked_up is None:
            continue
        node = looked_up[0]
        copied = node.st_ino != union_ino(upper.layer, packed >> INO_SHIFT)
        if isinstance(node, Dir):
            state.table.hold(node)
            away = node.redirect is not None or (at.moved and bool(node.lowers))
            waiting.append(_Upper(node, path, away))
            if away or (copied and not node.lowers):
                found.dirs.append((path, node))
            continue
        if isinstance(node, File) and copied:
            found.copies.setdefault(node.st_ino, []).append((path, Copy(upper, name, node)))
        state.table.forget(node.nodeid, 0)


def _see(state: State, roots: Iterable[tuple[Dir, bytes]]) -> _Seen:
    """Return what the lowers have at and beneath the names `roots`, as if there were no upper."""
    seen = _Seen(set(), set())
    waiting = list(roots)
    while waiting:
        parent, name = waiting.pop()
        with parent.lock:
            loaded = load_locked(state, parent)
        seen.inos.add(_lower_st_ino(state, parent, name))
        if loaded.lower[name] & TYPE_MASK != DT_DIR:
            continue
        above = [parent.lowers[position] for position in loaded.positions(name)]
        # Not in the table: it is only read.
        d = Dir(parent, name, None, tuple(RealDir(real.layer, real, name) for real in above))
        with d.lock:
            below = load_locked(state, d).lower
        seen.dirs.update(map(_key, d.lowers))
        waiting += [(d, kid) for kid in below]
    return seen


def _key(real: RealDir) -> tuple[int, bytes]:
    return real.layer.number, real.path()


def _lower_st_ino(state: State, parent: Dir, name: bytes) -> StIno:
    """Return the st_ino that the lowers show for `name`; the names of `parent` are known."""
    packed = parent.require_loaded().lower[name]
    real = parent.lowers[lower_position(packed)]
    origin = origin_of(state, real, name) if real.impure else None
    copied = None if origin is None else origin_ino(state, origin)
    return copied or union_ino(real.layer, lower_ino(packed))
