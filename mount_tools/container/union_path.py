"""A path in a union that is not mounted, walked as the kernel does in a chroot.

Decided here and only here: links are followed within the tree, `..` never leads out of it,
and the number of links is limited.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from unionfs.types import ROOT_NODEID, Attr, NodeId
from unionfs.vfs import Filesystem

_LINKS_FOLLOWED = 40

# The directory, the name in it, and whether that is the last of the path.
Look = Callable[[NodeId, bytes, bool], Attr | None]


def walk(union: Filesystem, path: bytes, look: Look, *, follow_last: bool) -> NodeId | None:
    """Return the nodeid that `path` leads to, from the root; each name is found by `look`.

    None if `look` finds nothing or links lead in a circle.  Raises what `look` raises.
    """
    above = [ROOT_NODEID]
    rest = _names(path)
    links = 0
    while rest:
        name = rest.pop()
        if name == b"..":
            above = above[:-1] or above
            continue
        found = look(above[-1], name, not rest)
        if found is None:
            return None
        if not stat.S_ISLNK(found.st.st_mode) or not (rest or follow_last):
            above.append(found.nodeid)
            continue
        links += 1
        if links > _LINKS_FOLLOWED:
            return None
        target = union.readlink(found.nodeid)
        if target.startswith(b"/"):
            above = [ROOT_NODEID]
        rest += _names(target)
    return above[-1]


def _names(path: bytes) -> list[bytes]:
    """Return the names in `path`, the last one first."""
    return [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]
