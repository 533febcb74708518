"""Forget listings after layers were changed outside the mount (control command `invalidate`).

The union remembers what a directory holds; `reread` forgets that, so that the
directory is read again at the next lookup in it.  An inode stays the same until a
lookup of its name finds another file.
"""

from __future__ import annotations

from unionfs.core.inode import Dir, Node
from unionfs.core.state import State
from unionfs.types import ROOT_NODEID, NodeId

Forgotten = list[tuple[NodeId, NodeId, bytes]]


def reread(state: State, path: bytes | None) -> Forgotten:
    """Forget what directories hold: all directories, or those along `path`.

    Returns nodeid, parent's nodeid and name of the inodes that the kernel may have cached.
    """
    if path is None:
        nodes = list(state.table.nodes.values())
    else:
        nodes = _along(state, path)
    for node in nodes:
        if isinstance(node, Dir):
            _forget(node)
    return [_known(node) for node in nodes]


def _along(state: State, path: bytes) -> list[Node]:
    """Return the inodes along `path` that are known."""
    at: Node = state.table.directory(ROOT_NODEID)
    nodes = [at]
    for name in path.split(b"/"):
        if not name:
            continue
        kid = at.kids.get(name) if isinstance(at, Dir) else None
        if kid is None:
            break
        nodes.append(kid)
        at = kid
    return nodes


def _known(node: Node) -> tuple[NodeId, NodeId, bytes]:
    return node.nodeid, node.parent.nodeid, b"" if node.parent is node else node.name


def _forget(d: Dir) -> None:
    with d.lock:
        if d.dead:
            return
        d.loaded = None
        d.stamp = ()
