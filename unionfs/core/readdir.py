"""readdir: list every visible name of a merged directory once, with cookies that stay valid.

A directory remembers the order in which it has listed its names.  New names
are added at the end and removed ones leave a gap.  So a cookie has one meaning for
all readers of the directory, even if it changes, and a listing has no state of its own.

Source: readdir(3); overlayfs.rst "Readdir"; fs/overlayfs/readdir.c.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from unionfs.core.config import Atime
from unionfs.core.inode import LOW_SHIFT, POSITION_MASK, Dir, Loaded, Node, union_ino
from unionfs.core.layer import Fd
from unionfs.core.lookup import NodeStat, load_locked, look_up_plain, lookup, lookup_locked
from unionfs.core.owner_rights import as_owner
from unionfs.core.state import State
from unionfs.core.whiteout import DT_DIR, INO_SHIFT, TYPE_MASK
from unionfs.types import Attr, DirEntry, Listed, LookedUp, NodeId, StIno


class Listing:
    """The order in which a directory lists its names, including those removed since."""

    __slots__ = ("generation", "names", "previous")

    def __init__(self, names: list[bytes]) -> None:
        self.names = names
        self.generation = 0
        self.previous: list[bytes] | None = None


# A cookie has the listing's generation in the high bits and a position in the low bits.
# Position 1 comes after ".", 2 after "..", and n + 3 after name n, counted from 0.
_GENERATION_SHIFT = 32
_POSITION_MASK = (1 << _GENERATION_SHIFT) - 1
_DOTS = 2


def listing_of(state: State, d: Dir) -> Listing | None:
    """Return the order in which `d` lists its names, also before anybody asks; None if removed."""
    with d.lock:
        if d.dead:
            return None
        if d.listing is None:
            _renew(d, load_locked(state, d))
        return d.listing


def list_dir(state: State, d: Dir, offset: int) -> Iterator[DirEntry]:
    """Yield the entries after cookie `offset`; a removed directory has none."""
    began = _begin(state, d, offset)
    if began is None:
        return
    names, base, position, loaded = began
    if position == 0:
        yield DirEntry(base | 1, b".", DT_DIR, d.st_ino)
    if position <= 1:
        yield DirEntry(base | _DOTS, b"..", DT_DIR, d.parent.st_ino)
    for index in range(max(position - _DOTS, 0), len(names)):
        name = names[index]
        loaded = d.loaded or loaded  # None: invalidated since
        # Not `Loaded.find`: a call for each entry makes a listing 5 % slower.
        packed = loaded.upper.get(name)
        in_upper = packed is not None
        if packed is None and name not in loaded.whiteouts:
            packed = loaded.lower.get(name)
        if packed is not None:
            st_ino = _entry_ino(state, d, name, packed, in_upper)
            yield DirEntry(base | (index + _DOTS + 1), name, packed & TYPE_MASK, st_ino)


def list_looked_up(
    state: State,
    d: Dir,
    offset: int,
    what: LookedUp,
    tell: Callable[[NodeId], object],
    attr: Callable[[Node, os.stat_result], Attr],
) -> Iterator[Listed]:
    """Yield as `list_dir`, and look each of `what` up.

    For `tell` see `vfs.Extents.list_looked_up`; `attr` returns the attributes to show of an inode.
    """
    began = _begin(state, d, offset)
    if began is None:
        return
    names, base, position, loaded = began
    if position == 0:
        yield base | 1, b".", DT_DIR, d.st_ino, None
    if position <= 1:
        yield base | _DOTS, b"..", DT_DIR, d.parent.st_ino, None
    bare, skips = what is LookedUp.DIRECTORIES, what is LookedUp.ALL_BUT_A_FILE
    for index in range(max(position - _DOTS, 0), len(names)):
        name = names[index]
        loaded = d.loaded or loaded  # as above
        packed = loaded.upper.get(name)
        in_upper = packed is not None
        if packed is None and name not in loaded.whiteouts:
            packed = loaded.lower.get(name)
        if packed is None:
            continue
        cookie, d_type = base | (index + _DOTS + 1), packed & TYPE_MASK
        if d_type != DT_DIR and (bare or skips):
            skips = False
            yield cookie, name, d_type, _entry_ino(state, d, name, packed, in_upper), None
            continue
        found = None if d_type == DT_DIR else look_up_plain(state, d, name)
        try:
            if found is None:
                found = _look_up(state, d, name, d_type, tell)
            shown = None if found is None else attr(*found)
        except OSError:
            shown = None  # a LOOKUP of the name reports the error
        if shown is not None:
            yield cookie, name, d_type, shown.st_ino, shown
        else:
            st_ino = StIno(packed >> (INO_SHIFT if in_upper else LOW_SHIFT))
            yield cookie, name, d_type, st_ino, None


def _look_up(
    state: State, d: Dir, name: bytes, d_type: int, tell: Callable[[NodeId], object]
) -> NodeStat | None:
    """Do as `lookup`, and `tell` the nodeid of a directory, before if it may be known already."""
    if d_type != DT_DIR:
        return lookup(state, d, name)
    known = d.kids.get(name)
    if known is not None:
        tell(known.nodeid)
    found = lookup(state, d, name)
    if found is not None and known is None:
        tell(found[0].nodeid)
    return found


def _begin(state: State, d: Dir, offset: int) -> tuple[list[bytes], int, int, Loaded] | None:
    """Return what a listing from cookie `offset` goes through; None if `d` is a removed directory.

    That is all names of its generation, the generation's bits of a cookie, the position to begin
    at, and what `d` has.
    """
    if offset == 0:
        with d.lock:
            if d.dead:
                return None
            _renew(d, load_locked(state, d))
        if state.config.atime is Atime.STRICTATIME:
            _touch_atime(d)
    loaded = d.loaded
    if loaded is None:
        with d.lock:
            loaded = load_locked(state, d)
    listing = d.listing
    if listing is None or d.dead:
        return None
    names, generation = listing.names, listing.generation
    position = offset & _POSITION_MASK
    # Offset 0 is no cookie of generation 0, but the beginning.
    if offset and offset >> _GENERATION_SHIFT != generation:
        if offset >> _GENERATION_SHIFT == generation - 1 and listing.previous:
            names, generation = listing.previous, generation - 1
        else:
            # Two listings have come meanwhile: rather a name twice than never.
            position = min(position, _DOTS)
    return names, generation << _GENERATION_SHIFT, position, loaded


def _touch_atime(d: Dir) -> None:
    """Let the kernel note that the directory is read, if it is in the upper.

    What it holds is in memory, from a reading that left the atime alone.
    """
    if d.upper is not None:
        of, flags = d.upper.fd(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        fd = as_owner(lambda: Fd(os.open(b".", flags, dir_fd=of)), (of, None))
        with os.scandir(fd) as entries:
            next(entries, None)


def _renew(d: Dir, loaded: Loaded) -> None:
    """Bring the order of names up to date; make a new listing if the old one is mostly gaps."""
    visible = loaded.names()
    listing = d.listing
    if listing is None:
        d.listing = Listing(visible)
        return
    known = set(listing.names)
    listing.names += [name for name in visible if name not in known]
    if len(listing.names) > 2 * len(visible) + 64:
        # A reader in the middle of the old listing can finish with it.
        renewed = Listing(visible)
        renewed.generation = listing.generation + 1
        renewed.previous = listing.names
        d.listing = renewed


def _entry_ino(state: State, d: Dir, name: bytes, packed: int, in_upper: bool) -> StIno:
    """Return the st_ino that stat(2) shows for `name`."""
    kid = d.kids.get(name)
    if kid is not None:
        return kid.st_ino
    if in_upper:
        if not d.lowers and not d.impure and d.upper is not None:
            return union_ino(d.upper.layer, packed >> INO_SHIFT)
        return _copied_ino(state, d, name) or StIno(packed >> INO_SHIFT)
    real = d.lowers[packed >> INO_SHIFT & POSITION_MASK]
    own = union_ino(real.layer, packed >> LOW_SHIFT)
    return _copied_ino(state, d, name) or own if real.impure else own


def _copied_ino(state: State, d: Dir, name: bytes) -> StIno | None:
    """Return the st_ino of a file that may be a copy, and so show the st_ino of its origin."""
    try:
        with d.lock:
            found = lookup_locked(state, d, name)
    except OSError:
        return None  # the name exists; a lookup of it reports the error
    if found is None:
        return None
    # The kernel does not know this inode, so it would never forget it.
    state.table.forget(found[0].nodeid, 0)
    return found[0].st_ino
