"""Reading layers again that somebody changed from outside, because he says so.

What a directory holds is remembered; `reread` forgets it, so that it is read
again when it is next looked into.  Inodes stay what they are until a name
leads elsewhere.
"""

from __future__ import annotations

from unionfs.core.inode import Dir, Node
from unionfs.core.state import State
from unionfs.types import ROOT_NODEID

Forgotten = list[tuple[int, int, bytes]]


def reread(state: State, path: bytes | None) -> Forgotten:
    """Forget what directories hold, all of them or that which `path` leads to.

    Returns nodeid, parent's nodeid and name of what the kernel may know.
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


def _known(node: Node) -> tuple[int, int, bytes]:
    return node.nodeid, node.parent.nodeid, b"" if node.parent is node else node.name


def _forget(d: Dir) -> None:
    with d.lock:
        if d.dead:
            return
        d.loaded = None
        d.stamp = ()
