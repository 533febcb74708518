"""What a case finds when it starts: a tree, and how it is spread over the layers.

A tree is a flat list of nodes with paths relative to the case's directory;
parents that are not listed are made with defaults.  `build` makes it in a
plain directory, through whatever filesystem that is; `split` says what each
layer of a union must hold so that the merged result is the same tree.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

OLD_NS = 1_000_000_000_123_456_789
"""The mtime and atime of every node that names no other: long past, with ns."""


class Placement(enum.Enum):
    """Where a case's tree lies in a union of an upper and three lowers."""

    FRESH = "fresh"  # made through the mount, so in the upper
    LOWER = "lower"  # all in the topmost lower
    DEEP = "deep"  # all in the bottom lower, no other layer has its parents
    MERGED = "merged"  # directories in two lowers, files in either; decoys and whiteouts
    MIXED = "mixed"  # as MERGED with the upper as a third


UPPER, TOP, BOTTOM = 0, 1, 3
LOWER_COUNT = 3

_LAYERS = {
    Placement.LOWER: (TOP,),
    Placement.DEEP: (BOTTOM,),
    Placement.MERGED: (TOP, BOTTOM),
    Placement.MIXED: (UPPER, TOP, BOTTOM),
}
GHOST = b"ghost"
"""A name that the bottom lower has and a whiteout above hides, in every merged directory."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One object of a tree.  `mode` includes the type, unless it is a hard link."""

    path: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = OLD_NS
    pieces: tuple[tuple[int, bytes], ...] = ()
    size: int | None = None  # the file is truncated to this first, making a hole
    target: bytes = b""  # of a symlink, or the other name of a hard link
    rdev: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_hard_link(self) -> bool:
        return self.mode == 0


# -- naming what a tree holds --


def file(
    path: str | bytes,
    content: bytes = b"",
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime_ns: int = OLD_NS,
    xattrs: Mapping[str, bytes] | None = None,
) -> Node:
    return Node(
        path=os.fsencode(path),
        mode=stat.S_IFREG | mode,
        pieces=((0, content),) if content else (),
        uid=uid,
        gid=gid,
        mtime_ns=mtime_ns,
        xattrs=xattrs or {},
    )


def sparse(path: str, size: int, *pieces: tuple[int, bytes]) -> Node:
    return Node(path=os.fsencode(path), mode=stat.S_IFREG | 0o644, size=size, pieces=pieces)


def directory(
    path: str | bytes,
    *,
    mode: int = 0o755,
    uid: int = 0,
    gid: int = 0,
    mtime_ns: int = OLD_NS,
    xattrs: Mapping[str, bytes] | None = None,
) -> Node:
    return Node(
        path=os.fsencode(path),
        mode=stat.S_IFDIR | mode,
        uid=uid,
        gid=gid,
        mtime_ns=mtime_ns,
        xattrs=xattrs or {},
    )


def symlink(
    path: str,
    target: str | bytes,
    *,
    uid: int = 0,
    gid: int = 0,
    xattrs: Mapping[str, bytes] | None = None,
) -> Node:
    return Node(
        path=os.fsencode(path),
        mode=stat.S_IFLNK | 0o777,
        target=os.fsencode(target),
        uid=uid,
        gid=gid,
        xattrs=xattrs or {},
    )


def hard_link(path: str, other: str) -> Node:
    return Node(path=os.fsencode(path), mode=0, target=os.fsencode(other))


def special(path: str, mode: int, rdev: int = 0) -> Node:
    return Node(path=os.fsencode(path), mode=mode, rdev=rdev)


# -- making it --


def build(nodes: Sequence[Node], base: bytes) -> None:
    """Make `nodes` beneath `base`, which exists or is made; attributes and times last."""
    complete = _with_parents(nodes)
    for node in complete:
        _make(node, base)
    for node in reversed(complete):
        if not node.is_hard_link:
            _dress(node, _join(base, node.path))


def _make(node: Node, base: bytes) -> None:
    path = _join(base, node.path)
    if node.is_hard_link:
        os.link(_join(base, node.target), path, follow_symlinks=False)
    elif node.is_dir:
        try:
            os.mkdir(path)
        except FileExistsError:
            assert node.path == b"", f"{node.path!r} is in the tree twice"
    elif stat.S_ISLNK(node.mode):
        os.symlink(node.target, path)
    else:
        os.mknod(path, stat.S_IFMT(node.mode) | 0o600, node.rdev)
    if node.pieces or node.size:
        fd = os.open(path, os.O_WRONLY)
        try:
            if node.size is not None:
                os.ftruncate(fd, node.size)
            for offset, data in node.pieces:
                os.pwrite(fd, data, offset)
        finally:
            os.close(fd)


def _dress(node: Node, path: bytes) -> None:
    if node.uid or node.gid:
        os.chown(path, node.uid, node.gid, follow_symlinks=False)
    if not stat.S_ISLNK(node.mode):
        os.chmod(path, stat.S_IMODE(node.mode))
    for name, value in node.xattrs.items():
        os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)


def _join(base: bytes, path: bytes) -> bytes:
    return os.path.join(base, path) if path else base


def _with_parents(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes with the parents they imply, each parent before its children."""
    complete: dict[bytes, Node] = {b"": directory(b"")}
    for node in nodes:
        parts = node.path.split(b"/") if node.path else []
        for depth in range(1, len(parts)):
            parent = b"/".join(parts[:depth])
            complete.setdefault(parent, directory(parent))
        complete[node.path] = node
    return list(complete.values())


# -- spreading it --


def split(nodes: Sequence[Node], placement: Placement) -> dict[int, list[Node]]:
    """Return what each layer must hold; 0 is the upper, 1 the topmost lower.

    Of several layers each has every directory, and the other objects take
    turns, a decoy of the same name beneath each that allows one, so that a
    union that mixes up its layers shows.  Names of one hard-linked file stay
    together.
    """
    layers = _LAYERS[placement]
    complete = _with_parents(nodes)
    held: dict[int, list[Node]] = {layer: [] for layer in layers}
    home: dict[bytes, int] = {}
    turn = 0
    for node in complete:
        if node.is_dir:
            for layer in layers:
                held[layer].append(node)
            if len(layers) > 1:
                _haunt(held, node.path)
            continue
        if node.is_hard_link:
            layer = home[node.target]
        else:
            layer = layers[turn % len(layers)]
            turn += 1
        home[node.path] = layer
        held[layer].append(node)
        if layer != layers[-1]:
            held[layers[-1]].append(file(node.path, b"a decoy nobody may see", mode=0o600))
    return held


def _haunt(held: Mapping[int, list[Node]], path: bytes) -> None:
    """Give a merged directory a name in its bottom layer and a whiteout for it above."""
    name = path + b"/" + GHOST if path else GHOST
    layers = list(held)
    held[layers[0]].append(replace(_WHITEOUT, path=name))
    held[layers[-1]].append(file(name, b"deleted"))


_WHITEOUT = Node(path=b"", mode=stat.S_IFCHR, rdev=0)
