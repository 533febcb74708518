"""What is open goes on after a freeze, where a mode keeps even the owner out.

The daemon of an ordinary user reaches files by their names.  In the upper it widens the mode of
a directory that it may not search, and of a file that it may not read (`core.owner_rights`).  A
frozen upper is a lower, whose modes must not change.  So the freeze opens such files that are open
for reading while it still can, and that fd is used in place of the name.

Decided here and only here: for which files, and how long the fd is kept: as long as one of the
handles of that moment.

Source: open(2): rights are checked when a file is opened.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterable, Set

from unionfs.core.file import Handle
from unionfs.core.inode import Dir, File, in_upper
from unionfs.core.layer import Kept
from unionfs.core.owner_rights import upper_stat
from unionfs.core.real_file import open_node
from unionfs.core.state import State


def keep_open(state: State, handles: Iterable[Handle], moving: Set[File]) -> None:
    """Keep an fd for each file of `handles` that its name will not lead to after the freeze.

    The files that are `moving` stay in the upper.  No request is inside the union.
    """
    if state.owners.privileged:
        return
    known: dict[Dir, bool] = {}
    for handle in handles:
        node = handle.node
        if not in_upper(node) or node.unlinked or node in moving or node.kind != stat.S_IFREG:
            continue
        folders = (node.parent, *(folder for folder, _ in node.aliases or ()))
        if any(_is_closed(folder, known) for folder in folders) or _is_unreadable(node):
            handle.kept = _kept(state, node)


def _is_unreadable(node: File) -> bool:
    return not upper_stat(node.real.fd(), node.rname).st_mode & stat.S_IRUSR


def _is_closed(d: Dir, known: dict[Dir, bool]) -> bool:
    """Tell whether the owner of `d` may not search it, or one above it."""
    unknown = []
    while d not in known:
        unknown.append(d)
        if d.parent is d:
            break
        d = d.parent
    closed = known.get(d, False)
    for below in reversed(unknown):
        closed = closed or not os.stat(below.top().fd()).st_mode & stat.S_IXUSR
        known[below] = closed
    return closed


def _kept(state: State, node: File) -> Kept:
    real = node.real
    if real.kept is None:
        real.kept = weakref.WeakValueDictionary()
    kept = real.kept.get(node.rname)
    if kept is None:
        fd = open_node(state, node, os.O_RDONLY | os.O_NOATIME, metacopy=True, widen=True)
        kept = real.kept[node.rname] = Kept(fd)
    return kept
