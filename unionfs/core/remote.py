"""Unions with a layer that may stop to answer: one on a network or FUSE filesystem.

Decided here and only here: how a request that waits for such a layer keeps no other from
being served.  The transport gives each request a thread of its own; what is left are the
locks.  Before an operation takes the lock of a directory, the same calls into the layer
are made with no lock held.  If the layer does not answer, the thread waits there.

A layer that stops to answer just between the two calls is still waited for with the lock
held; other requests for names in that directory then wait too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from unionfs.core.inode import Dir, File, Node, in_upper, lower_position
from unionfs.core.layer import RealDir
from unionfs.core.union import DOTS, UnionFs
from unionfs.core.whiteout import DT_DIR
from unionfs.syscalls import xattr
from unionfs.types import Attr, Backing, DirEntry, Fh, Listed, LookedUp, NodeId, SetAttr


def await_dir(d: Dir) -> None:
    """Wait for the layers to answer for `d`, its names, and what a copy_up of it reads."""
    at = d
    while at.upper is None:
        real = at.top()
        if real.layer.remote:
            ask(real.fd(), b"")
        if at.parent is at:
            break
        at = at.parent
    if d.loaded is None and not d.dead:
        for real in d.lowers:
            if real.layer.remote:
                ask(real.fd(), b"")
                _ask_for_names(real.fd())


def await_name(d: Dir, name: bytes) -> None:
    """Wait for the layers to answer for `name` in `d`."""
    await_dir(d)
    loaded = d.loaded
    kid = d.kids.get(name)
    if isinstance(kid, Dir):
        await_dir(kid)
    elif loaded is not None:
        packed = loaded.lower.get(name)
        if packed is not None and name not in loaded.upper:
            real = d.lowers[lower_position(packed)]
            if real.layer.remote:
                ask(real.fd(), name)


def ask(fd: int, name: bytes) -> None:
    """Ask for attributes and xattrs; the operation itself meets any error again."""
    with suppress(OSError):
        if name:
            os.stat(name, dir_fd=fd, follow_symlinks=False)
            xattr.list_at(fd, name)
        else:
            os.stat(fd)
            xattr.list_fd(fd)


def _ask_for_names(fd: int) -> None:
    """Read the directory `fd`; the operation itself meets any error again."""
    # Not by `fd` itself: all who read from it share its position, and another thread may
    # list the directory for good meanwhile (see `whiteout.scan`).
    with suppress(OSError):
        os.listdir(f"/proc/self/fd/{fd}")


def _is_remote(node: File) -> bool:
    real: RealDir = node.real if node.data is None else node.data.real
    return real.layer.remote and not (node.data is None and in_upper(node))


class RemoteUnion(UnionFs):
    """A union in which calls into a layer may never return."""

    def may_hang(self) -> bool:
        return True

    def lookup(self, parent: NodeId, name: bytes) -> Attr | None:
        self._await(parent, name)
        return super().lookup(parent, name)

    def setattr(self, nodeid: NodeId, change: SetAttr, *args: object) -> Attr:
        self._await_place(self._table.get(nodeid))
        return super().setattr(nodeid, change, *args)  # type: ignore[arg-type]

    def mknod(self, parent: NodeId, name: bytes, *args: int) -> Attr:
        self._await(parent, name)
        return super().mknod(parent, name, *args)

    def mkdir(self, parent: NodeId, name: bytes, *args: int) -> Attr:
        self._await(parent, name)
        return super().mkdir(parent, name, *args)

    def symlink(self, parent: NodeId, name: bytes, *args: object) -> Attr:
        self._await(parent, name)
        return super().symlink(parent, name, *args)  # type: ignore[arg-type]

    def link(self, nodeid: NodeId, new_parent: NodeId, new_name: bytes) -> Attr:
        self._await_place(self._table.get(nodeid))
        self._await(new_parent, new_name)
        return super().link(nodeid, new_parent, new_name)

    def unlink(self, parent: NodeId, name: bytes) -> None:
        self._await(parent, name)
        super().unlink(parent, name)

    def rmdir(self, parent: NodeId, name: bytes) -> None:
        self._await(parent, name)
        super().rmdir(parent, name)

    def rename(
        self, parent: NodeId, name: bytes, new_parent: NodeId, new_name: bytes, flags: int
    ) -> None:
        self._await(parent, name)
        self._await(new_parent, new_name)
        super().rename(parent, name, new_parent, new_name, flags)

    def open(self, nodeid: NodeId, flags: int) -> Fh:
        self._await_place(self._table.get(nodeid))
        return super().open(nodeid, flags)

    def create(self, parent: NodeId, name: bytes, *args: int) -> tuple[Attr, Fh]:
        self._await(parent, name)
        return super().create(parent, name, *args)

    def tmpfile(self, parent: NodeId, *args: int) -> tuple[Attr, Fh]:
        await_dir(self._table.directory(parent))
        return super().tmpfile(parent, *args)

    def backing(self, fh: Fh) -> Backing | None:
        # The transport asks with a lock held that every open of a file needs.
        if _is_remote(self._files.require(fh).node):
            return None
        return super().backing(fh)

    def listdir(self, nodeid: NodeId, offset: int) -> Iterator[DirEntry]:
        await_dir(self._table.directory(nodeid))
        return super().listdir(nodeid, offset)

    def list_looked_up(
        self, nodeid: NodeId, offset: int, what: LookedUp, tell: Callable[[NodeId], object]
    ) -> Iterator[Listed]:
        kids = self._table.directory(nodeid).kids
        skips = what is LookedUp.ALL_BUT_A_FILE
        for cookie, name, d_type, st_ino in self.listdir(nodeid, offset):
            attr = None
            if d_type != DT_DIR and (skips or what is LookedUp.DIRECTORIES):
                skips = False
            elif name not in DOTS:
                known = kids.get(name) if d_type == DT_DIR else None
                if known is not None:
                    tell(known.nodeid)
                with suppress(OSError):  # a LOOKUP of the name reports the error
                    attr = self.lookup(nodeid, name)
                if attr is not None and known is None and d_type == DT_DIR:
                    tell(attr.nodeid)
            yield cookie, name, d_type, st_ino if attr is None else attr.st_ino, attr

    def readdir(self, fh: Fh, offset: int) -> Iterator[DirEntry]:
        await_dir(self._dir(fh))
        return super().readdir(fh, offset)

    def setxattr(self, nodeid: NodeId, name: bytes, value: bytes, flags: int) -> None:
        self._await_place(self._table.get(nodeid))
        super().setxattr(nodeid, name, value, flags)

    def removexattr(self, nodeid: NodeId, name: bytes) -> None:
        self._await_place(self._table.get(nodeid))
        super().removexattr(nodeid, name)

    def _await(self, parent: NodeId, name: bytes) -> None:
        await_name(self._table.directory(parent), name)

    def _await_place(self, node: Node) -> None:
        if isinstance(node, Dir):
            await_dir(node)
        else:
            await_name(node.parent, node.name)
