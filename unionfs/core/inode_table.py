"""The table of the inodes that the kernel knows: nodeids, nlookup, and what is kept open.

Decided here and only here: nodeids, nlookup, and which names are one inode.

Threading: `InodeTable.lock` guards the table and every `nlookup`.  `unionfs.core` has the
lock order.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from unionfs.core.inode import Dir, File, Key, Node
from unionfs.core.layer import Fd, RealDir
from unionfs.errors import fs_error
from unionfs.light_typing import TYPE_CHECKING, cast
from unionfs.types import ROOT_NODEID, NodeId, StIno

if TYPE_CHECKING:
    from unionfs.core.file import Handle

_FIRST_SPARE = 1 << 62

# How long the removal of a directory and the freeing of a deleted file wait for each other: one
# of them may take long, or never end on a network filesystem.
PATIENCE_S = 0.05


class InodeTable:
    """Every inode that the kernel refers to, and the directories above it.

    A freeze goes through `uppers`, the directories that have an upper part, and
    `orphans`, the files that an fd keeps alive.

    The kernel may refer to an inode that has no name and is not open, by an O_PATH
    descriptor or a working directory, but it does not say so.  So each such inode keeps
    an fd, in `unopened`, oldest first.  If there are more than `max_unopened`, the oldest
    lose theirs.

    `freed` is called with `lock` held for an inode that the kernel has forgotten.
    `freeing` is held, `lock` not, while the fds of deleted files are closed, and while a
    directory is removed.  `removing` is held by the thread that removes one, also while it waits
    for `freeing`: a thread that closes many files would take that again before the other is awake.
    """

    def __init__(self, max_unopened: int = 64) -> None:
        self.nodes: dict[NodeId, Node] = {}
        self.unopened: dict[Node, None] = {}
        self.max_unopened = max_unopened
        self.uppers: set[Dir] = set()
        self.orphans: set[File] = set()
        self.by_key: dict[Key, File] = {}
        self.lock = threading.Lock()
        self.removing = threading.Lock()
        self.freeing = threading.Lock()
        self.freed: Callable[[NodeId], object] = int
        self._spare = cast("Iterator[NodeId]", itertools.count(_FIRST_SPARE))

    def add_root(self, root: Dir) -> None:
        """Add the root, which is never forgotten."""
        root.nodeid = ROOT_NODEID
        root.nlookup = 1
        self.nodes[ROOT_NODEID] = root
        if root.upper is not None:
            self.uppers.add(root)

    def add_locked(self, node: Node, st_ino: StIno) -> None:
        """Add `node`, whose nodeid is its st_ino, or a spare number if that is taken.

        It is taken if the number was reused while the kernel still refers to the old
        file, or if one layer is in the stack twice.
        """
        node.st_ino = st_ino
        # Not `NodeId(st_ino)`: a call for each new inode takes time.
        nodeid: NodeId = st_ino  # type: ignore[assignment]
        if nodeid <= ROOT_NODEID or nodeid in self.nodes:
            nodeid = next(self._spare)
        node.nodeid = nodeid
        self.nodes[nodeid] = node

    def make_orphan(self, node: File, nowhere: RealDir, orphan: Fd | os.stat_result) -> None:
        """Note that the upper file `node` has no name left but is kept by the fd `orphan`.

        If nobody has the file open, `orphan` may be its attributes instead of an fd.
        """
        with self.lock:
            node.real, node.rname = nowhere, b""
            node.unlinked = True
            if isinstance(orphan, Fd):
                node.orphan = orphan
            else:
                self._lose_file(node, orphan)
            if self.nodes.get(node.nodeid) is node:
                self.orphans.add(node)
                if node.orphan is not None and not node.opened:
                    self.unopened[node] = None

    # A thread that looks a name up holds the lock of its directory only, so two threads may
    # change the names of one file at once: each change is made with `lock` held.

    def make_first(self, node: File, name: tuple[Dir, bytes]) -> None:
        """Make `name`, which `node` has, the one by which it is found first."""
        with self.lock:
            others = [other for other in node.names() if other != name]
            node.parent, node.name = name
            node.aliases = others or None

    def move_name(self, node: File, was: tuple[Dir, bytes], now: tuple[Dir, bytes]) -> None:
        """Note that the name `was` of `node` is `now`."""
        with self.lock:
            first, *others = [now if name == was else name for name in node.names()]
            node.parent, node.name = first
            node.aliases = others or None

    def drop_name(self, node: File, name: tuple[Dir, bytes]) -> None:
        """Note that `node` has lost `name`; the last one stays."""
        with self.lock:
            others = [other for other in node.names() if other != name]
            if others:
                node.parent, node.name = others[0]
                node.aliases = others[1:] or None

    def make_dead(self, d: Dir) -> None:
        """Note that the directory `d` was removed; its pinned fd keeps it."""
        with self.lock:
            d.dead = True
            if self.nodes.get(d.nodeid) is d:
                self.unopened[d] = None

    def note_open(self, node: File, handle: Handle) -> None:
        """Count the open `handle` of `node`."""
        with self.lock:
            node.opened += 1
            node.handle = handle
            if node.unlinked:
                self.unopened.pop(node, None)
                if node.last_stat is not None and handle.fd is not None:
                    node.orphan, node.last_stat = handle.fd, None

    def note_release(self, node: File, handle: Handle) -> None:
        """Note that `handle` of `node` was closed."""
        with self.lock:
            node.opened -= 1
            if node.handle is handle:
                node.handle = None
            if node.orphan is None or node.opened or self.nodes.get(node.nodeid) is not node:
                return
            self.unopened[node] = None
        self.close_surplus()

    def close_surplus(self, limit: int | None = None) -> None:
        """Close the fds of nameless inodes that nobody has open, down to `limit` of them.

        The default limit is `max_unopened`.  The caller holds no lock: the last close of a
        deleted file frees its space, which takes time.
        """
        limit = self.max_unopened if limit is None else limit
        while len(self.unopened) > limit:
            with self.lock:
                node = next(iter(self.unopened), None)
                if node is None:
                    return
                del self.unopened[node]
                last = [self._take_fd(node)]
            self._free_in_turn(last)

    def remove_in_turn(self, rmdir: Callable[[], None]) -> None:
        """Call `rmdir` while no deleted file is being freed, unless that takes long.

        rmdir(2) spins while a deleted file of the directory is being freed.

        Source: fs/dcache.c:shrink_dcache_parent().
        """
        # Without a timeout first: that takes half a microsecond less.
        has_turn = self.removing.acquire(False) or self.removing.acquire(timeout=PATIENCE_S)
        is_held = self.freeing.acquire(False) or self.freeing.acquire(timeout=PATIENCE_S)
        try:
            rmdir()
        finally:
            if is_held:
                self.freeing.release()
            if has_turn:
                self.removing.release()

    def _free_in_turn(self, last: list[Node] | list[Fd | None]) -> None:
        """Drop the `last` references to deleted files while no directory is being removed.

        A removal that waits for the present file to be freed comes before the next one.
        """
        if self.removing.locked() and self.removing.acquire(timeout=PATIENCE_S):
            self.removing.release()
        is_held = self.freeing.acquire(False) or self.freeing.acquire(timeout=PATIENCE_S)
        try:
            last.clear()
        finally:
            if is_held:
                self.freeing.release()

    def _take_fd(self, node: Node) -> Fd | None:
        """Take the fd from `node` and return it, for the caller to close without `lock`.

        The caller holds `lock`.
        """
        if isinstance(node, Dir):
            real = node.top()
            fd = real.fd()
            if real.layer.is_upper:
                # Another directory may have its name by now.
                real.parent = None
                # NFS has no attributes of a removed directory.
                with suppress(OSError):
                    node.last_stat = os.stat(fd)
            real.unpin()
            return fd
        assert isinstance(node, File)
        orphan = node.orphan
        if orphan is not None:
            with suppress(OSError):  # it keeps its fd
                self._lose_file(node, os.stat(orphan))
        return orphan

    def _lose_file(self, node: File, st: os.stat_result) -> None:
        """Keep only the attributes `st` of the nameless `node`; the caller holds `lock`."""
        node.last_stat, node.orphan = st, None
        if not st.st_nlink:
            # Another file may get its inode number.
            self._forget_key(node)

    def hold(self, node: Node) -> bool:
        """Count one reference to `node`; return False if it was forgotten meanwhile."""
        with self.lock:
            if self.nodes.get(node.nodeid) is not node:
                # Another thread may have added the key again meanwhile.
                self._forget_key(node)
                return False
            node.nlookup += 1
            return True

    def get(self, nodeid: NodeId) -> Node:
        """Return the inode `nodeid`; ESTALE if there is none."""
        node = self.nodes.get(nodeid)
        if node is None:
            raise fs_error(errno.ESTALE)
        return node

    def directory(self, nodeid: NodeId) -> Dir:
        """Return the directory `nodeid`; ESTALE if there is no such inode, ENOTDIR for a file."""
        node = self.nodes.get(nodeid)
        if type(node) is Dir:
            return node
        code = errno.ESTALE if node is None else errno.ENOTDIR
        raise fs_error(code)

    def file(self, nodeid: NodeId) -> File:
        """Return the file `nodeid`; ESTALE if there is no such inode, EISDIR for a directory."""
        node = self.nodes.get(nodeid)
        if type(node) is File:
            return node
        code = errno.ESTALE if node is None else errno.EISDIR
        raise fs_error(code)

    def forget(self, nodeid: NodeId, nlookup: int) -> None:
        """Drop `nlookup` references, and free each inode that has none left."""
        with self.lock:
            node = self.nodes.get(nodeid)
            if node is None:
                return
            if nlookup < node.nlookup:
                node.nlookup -= nlookup
                return
            node.nlookup = 0
            self.freed(nodeid)
            if type(node) is not File or node.key is not None or node.aliases is not None:
                freed = self._free(node)
            else:  # what `_free` does of most files
                del self.nodes[nodeid]
                self.orphans.discard(node)
                self.unopened.pop(node, None)
                freed = [node]
                parent = node.parent
                if parent.kids.get(node.name) is node:
                    del parent.kids[node.name]
                    if not parent.nlookup:
                        freed += self._free(parent)
                if node.orphan is None and len(freed) == 1:
                    return  # it has no fd
        # Freed with no lock held: the last close of a deleted file takes time.
        del node
        self._free_in_turn(freed)

    def clear(self) -> None:
        """Drop every inode, and close the fds that they keep."""
        with self.lock:
            for node in self.nodes.values():
                if isinstance(node, File):
                    node.orphan = None
                elif isinstance(node, Dir) and node.dead:
                    node.top().unpin()
            self.nodes.clear()
            self.by_key.clear()
            self.uppers.clear()
            self.orphans.clear()
            self.unopened.clear()

    def _forget_key(self, node: Node) -> None:
        if isinstance(node, File) and node.key is not None and self.by_key.get(node.key) is node:
            del self.by_key[node.key]

    def _free(self, node: Node) -> list[Node]:
        """Remove `node` from the table, and each parent that only it kept; return them all."""
        freed: list[Node] = []
        # A directory stays as long as it has children in the table.
        doubtful = [node]
        while doubtful:
            node = doubtful.pop()
            if node.nlookup or node.nodeid == ROOT_NODEID:
                continue
            if isinstance(node, Dir):
                if node.kids:
                    continue
                self.uppers.discard(node)
            elif isinstance(node, File):
                self.orphans.discard(node)
                if node.key is not None:
                    self._forget_key(node)
            if self.nodes.get(node.nodeid) is node:
                del self.nodes[node.nodeid]
            self.unopened.pop(node, None)
            freed.append(node)
            aliases = (node.aliases or ()) if isinstance(node, File) else ()
            for parent, name in ((node.parent, node.name), *aliases):
                if parent.kids.get(name) is node:
                    del parent.kids[name]
                    if not parent.nlookup:
                        doubtful.append(parent)
        return freed
