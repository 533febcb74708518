"""Before a freeze: find all names of the hard links that it must move.

Decided here and only here: how those names of a copied-up hard link that only lowers
have are linked into the upper, so that its index entry can be removed, and how the
unknown names of a hard link in the upper are found.

Both use ordinary lookups in the union.  What a lookup has found is known, so later
requests keep it up to date.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial

from unionfs.core.copy_up import link_up
from unionfs.core.inode import Dir, File, in_upper, lower_ino, lower_position
from unionfs.core.link_index import LinkIndex
from unionfs.core.lookup import load_locked, lookup
from unionfs.core.origin import decode_origin, encode_origin
from unionfs.core.owner_rights import as_owner, upper_stat
from unionfs.core.state import State
from unionfs.core.whiteout import DT_DIR, INO_SHIFT, TYPE_MASK
from unionfs.syscalls import xattr
from unionfs.types import ROOT_NODEID

BATCH = 64  # index entries dropped in one pause

Place = tuple[Dir, bytes]
Names = list[tuple[bytes, int, bool]]


def known_names(node: File) -> list[Place]:
    """Return the names of `node` that have been looked up, its place first."""
    return [] if node.unlinked else node.names()


# -- the index --


def settle_index(state: State, *, paused: bool = False) -> None:
    """Link every name of a copied-up hard link into the upper, and empty the index."""
    index = state.index()
    if index is None or not index.used:
        return
    entries = list(index.used)
    missing = sum(_missing(index, entry) for entry in entries)
    if missing > 0:
        _link_missing(state, set(entries), missing)
    for start in range(0, len(entries), BATCH):
        with nullcontext() if paused else state.gate.paused():
            for entry in entries[start : start + BATCH]:
                _drop_entry(state, index, entry)


def _missing(index: LinkIndex, entry: bytes) -> int:
    """Return how many names of the file of `entry` the upper does not have."""
    try:
        st = os.stat(entry, dir_fd=index.fd, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return max(0, 1 + index.delta(entry, st))


def _link_missing(state: State, entries: set[bytes], missing: int) -> None:
    origins = {bytes.fromhex(entry.decode()) for entry in entries}
    parsed = [decode_origin(origin) for origin in origins]
    inos = {origin.ino for origin in parsed if origin is not None}
    left = missing
    for d, names in _walk(state, lambda d: True):
        for name, packed, is_upper in names:
            if is_upper:
                continue
            real = d.lowers[lower_position(packed)]
            if lower_ino(packed) not in inos:
                continue
            if encode_origin(real.layer, real.fd(), name) in origins:
                left -= _link_one(state, d, name)
        if left <= 0:
            return


def _link_one(state: State, d: Dir, name: bytes) -> bool:
    """Link `name` in `d` into the upper if its file was copied up; tell whether it was."""
    found = lookup(state, d, name)
    if found is None:
        return False
    node = found[0]
    try:
        if not isinstance(node, File) or not in_upper(node):
            return False
        link_up(state, node, d, name)
        return True
    finally:
        state.table.forget(node.nodeid, 1)


def _drop_entry(state: State, index: LinkIndex, entry: bytes) -> None:
    """Remove an index entry whose file has all of its names in the upper."""
    try:
        st = os.stat(entry, dir_fd=index.fd, follow_symlinks=False)
    except FileNotFoundError:
        index.used.discard(entry)
        return
    delta = index.delta(entry, st)
    if delta >= 0 and st.st_nlink == 1:
        return  # it is the only name of the file
    node = state.table.by_key.get((st.st_dev, st.st_ino))
    if node is not None:
        if not _place_by_name(state, node, st.st_ino):
            return
        node.nlink_delta = 0
    target = xattr.at(index.fd, entry)
    if state.marks.nlink in xattr.list_at(index.fd, entry):
        remove = partial(os.removexattr, target, state.marks.nlink, follow_symlinks=False)
        as_owner(remove, (index.fd, entry))
    index.remove(entry)


def _place_by_name(state: State, node: File, ino: int) -> bool:
    """Make a name in the upper the place of `node`; tell whether there is one."""
    if node.unlinked:
        return True
    for parent, name in known_names(node):
        if parent.upper is None:
            continue
        try:
            st = upper_stat(parent.upper.fd(), name)
        except FileNotFoundError:
            continue
        if st.st_ino == ino:
            state.table.make_first(node, (parent, name))
            node.real, node.rname = parent.upper, name
            return True
    return False


# -- links in the upper --


def adopt_names(state: State, nodes: Iterable[File]) -> None:
    """Look up all upper names of those `nodes`, and orphans, of which some are unknown."""
    wanted = set()
    for node in {*nodes, *state.table.orphans}:
        orphan = node.orphan
        if orphan is not None:
            nlink = os.stat(orphan).st_nlink
        else:
            try:
                nlink = upper_stat(node.real.fd(), node.rname).st_nlink
            except FileNotFoundError:
                continue
        if nlink > len(known_names(node)):
            wanted.add(node.rino)
    if not wanted:
        return

    for d, names in _walk(state, lambda d: d.upper is not None):
        for name, packed, is_upper in names:
            if is_upper and packed >> INO_SHIFT in wanted:
                found = lookup(state, d, name)
                if found is not None:
                    state.table.forget(found[0].nodeid, 1)


def _walk(state: State, enter: Callable[[Dir], bool]) -> Iterator[tuple[Dir, Names]]:
    """Yield each directory for which `enter` returns True, and the files visible in it.

    With each name comes its integer of `scan`, and whether that is of the upper.
    """
    pending = [state.table.directory(ROOT_NODEID)]
    try:
        while pending:
            d = pending[-1]
            files, folders = _names(state, d)
            yield d, files
            pending.pop()
            for name in folders:
                try:
                    found = lookup(state, d, name)
                except OSError:
                    continue  # a lookup of this name reports the error
                if found is not None and isinstance(found[0], Dir) and enter(found[0]):
                    pending.append(found[0])
                elif found is not None:
                    state.table.forget(found[0].nodeid, 1)
            _let_go(state, d)
    finally:
        for d in pending:
            _let_go(state, d)


def _let_go(state: State, d: Dir) -> None:
    if d.parent is not d:
        state.table.forget(d.nodeid, 1)


def _names(state: State, d: Dir) -> tuple[Names, list[bytes]]:
    """Return the files visible in `d`, and the directories."""
    with d.lock:
        if d.dead:
            return [], []
        visible = list(load_locked(state, d).visible())
    files = [entry for entry in visible if entry[1] & TYPE_MASK != DT_DIR]
    return files, [name for name, packed, _ in visible if packed & TYPE_MASK == DT_DIR]
