"""Where a program that walks a tree goes when it has been through a directory.

Decided here and only here: what comes next, as fts(3), find and os.walk go: the first directory
beneath, else the next one beside, or beside one of those above.  Only what a program has listed
is known to be walked, so nobody goes on beside a directory whose parent was not.

Threading: the caller holds no `Dir.lock`.
"""

from __future__ import annotations

from unionfs.core.inode import Dir
from unionfs.core.lookup import lookup
from unionfs.core.state import State
from unionfs.core.whiteout import DT_DIR, TYPE_MASK

FAR = 4096  # names among which the next directory is searched


def next_dir(state: State, d: Dir, *, is_sorted: bool) -> Dir | None:
    """Return the directory that comes after `d`, None if there is none or it cannot be foreseen.

    One more reference to it is counted.  With `is_sorted` the program goes by the sorted names,
    otherwise by the listings.  Raises as `lookup`.
    """
    found = _first_after(state, d, None, is_sorted=is_sorted)
    while found is None and d.parent is not d:
        found = _first_after(state, d.parent, d.name, is_sorted=is_sorted)
        d = d.parent
    return found


def _first_after(state: State, d: Dir, name: bytes | None, *, is_sorted: bool) -> Dir | None:
    """Return the first directory in `d`, or the first after `name`."""
    listing, loaded = d.listing, d.loaded
    if listing is None or loaded is None or len(listing.names) > FAR:
        return None
    names = sorted(listing.names) if is_sorted else listing.names
    try:
        begin = 0 if name is None else names.index(name) + 1
    except ValueError:  # it was renamed
        return None
    for candidate in names[begin:]:
        packed = loaded.upper.get(candidate)
        if packed is None and candidate not in loaded.whiteouts:
            packed = loaded.lower.get(candidate)
        if packed is not None and packed & TYPE_MASK == DT_DIR:
            found = lookup(state, d, candidate)
            if found is not None and type(found[0]) is Dir:
                return found[0]
            if found is not None:
                state.table.forget(found[0].nodeid, 1)
    return None
