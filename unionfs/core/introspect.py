"""Virtual attributes, which answer from which layer a file of the mount comes.

Every file has `user.pyunion.NAME`.  Links and devices, which cannot have user.*
attributes, have `trusted.pyunion.NAME`.  They are never listed and never stored:

- `layer`: the directory of the layer that provides the file, as given to the mount
- `path`: the path of the file in that layer
- `fullpath`: both joined
- `layers`: for a directory, every directory that is merged into it, topmost first; for
  anything else every place that has the name, the visible one first.  One line
  each; a newline in a path is written as `\\012` and a backslash as `\\134`

The root also has `stack` (the layers, upper first) and `counters` (JSON).
"""

from __future__ import annotations

import os

from unionfs.core.inode import Dir, File, Node
from unionfs.core.layer import RealDir
from unionfs.core.lookup import load_locked
from unionfs.core.state import State
from unionfs.core.whiteout import has_aufs_whiteout, is_whiteout, is_xattr_whiteout

VIRTUAL_PREFIXES = (b"user.pyunion.", b"trusted.pyunion.")


def virtual_value(state: State, node: Node, name: bytes) -> bytes | None:
    """Return the value of the virtual attribute `name` of `node`, None if there is none."""
    asked = name.split(b".", 2)[2]
    if asked == b"layer":
        return _real_dir(node).layer.path
    if asked == b"path":
        return _path(node)
    if asked == b"fullpath":
        return b"/".join(part for part in (_real_dir(node).layer.path, _path(node)) if part)
    if asked == b"layers":
        return b"\n".join(map(_line, _layers(state, node)))
    if node.parent is node:
        if asked == b"stack":
            return b"\n".join(layer.path for layer in state.stack())
        if asked == b"counters":
            import json  # only here: a mount should not wait for its import

            return json.dumps(counters(state)).encode()
    return None


def places(value: bytes) -> list[bytes]:
    """Return the paths in `value`, which is that of the attribute `layers`."""
    lines = value.split(b"\n")
    return [line.replace(b"\\012", b"\n").replace(b"\\134", b"\\") for line in lines]


def _line(path: bytes) -> bytes:
    return path.replace(b"\\", b"\\134").replace(b"\n", b"\\012")


def counters(state: State) -> dict[str, int]:
    """Return counts of what the union has in memory and of what it has done."""
    nodes = list(state.table.nodes.values())
    return {
        "inodes": len(nodes),
        "directories": sum(isinstance(node, Dir) for node in nodes),
        "lookups": sum(node.nlookup for node in nodes),
        "open_directories": len(state.fds),
        "copy_ups": state.counts["copy_ups"],
        "copies_ahead": state.counts["copies_ahead"],
        "handles": state.counts["handles"],
        "freezes": state.generation,
        **state.transport_counters(),
    }


def _real_dir(node: Node) -> RealDir:
    if isinstance(node, Dir):
        return node.top()
    assert isinstance(node, File)
    return node.real


def _path(node: Node) -> bytes:
    if isinstance(node, Dir):
        return node.top().path()
    assert isinstance(node, File)
    return b"/".join(part for part in (node.real.path(), node.rname) if part)


def _layers(state: State, node: Node) -> list[bytes]:
    if isinstance(node, Dir):
        with node.lock:
            load_locked(state, node)
        reals = node.lowers if node.upper is None else (node.upper, *node.lowers)
        return [real.full_path() for real in reals]
    parent = node.parent
    reals = parent.lowers if parent.upper is None else (parent.upper, *parent.lowers)
    places = []
    for real in reals:
        fd = real.fd()
        try:
            st = os.stat(node.name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if is_whiteout(st) or (
                real.xwhiteouts and is_xattr_whiteout(state.marks, fd, node.name, st)
            ):
                break
            places.append(real.full_path() + b"/" + node.name)
        if has_aufs_whiteout(fd, node.name):
            break
    return places
