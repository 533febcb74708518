"""The tree of the Python floor: directories, names and packed attributes, in memory.

As in `floor_tree.c` the content of a layer's file is read from the layer, what is written goes
to a memfd by passthrough, and a copy_up copies to one without waiting for a disk.  The memfds,
registered for passthrough, are used again for the next file.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from itertools import count

from benchmarks.floor_python.listings import (
    ATIME_AT,
    ATIME_NS_AT,
    CTIME_AT,
    CTIME_NS_AT,
    LOOK,
    MTIME_AT,
    MTIME_NS_AT,
    NLINK_AT,
    OPENED,
    PASSED,
    ROOT,
    SIZE_AT,
    VALID,
    Listed,
    Listings,
    put_long,
    put_longs,
    put_word,
    put_words,
)
from unionfs.wire import abi

NS = 1_000_000_000

_COPIED = 1 << 20

_OPENED_WRITTEN = abi.OPEN_OUT.pack(0, abi.FOPEN_NOFLUSH, 0)
_put_entry = abi.ENTRY_OUT.pack_into


class Store:
    """A memfd; `opened` is the reply to an OPEN that passes it through, empty if it cannot be."""

    __slots__ = ("fd", "opened")

    def __init__(self, device: int) -> None:
        self.fd = os.memfd_create("floor")
        self.opened = b""
        try:
            backing_map = bytearray(abi.BACKING_MAP.pack(self.fd, 0, 0))
            backing = int(fcntl.ioctl(device, abi.DEV_IOC_BACKING_OPEN, backing_map))
        except OSError:
            return  # a kernel without it
        self.opened = abi.OPEN_OUT.pack(1, PASSED, backing)


class Node(Listed):
    """An inode.

    `stale` is 0 if the entry holds, `LOOK` if the content may have changed, else the time in ns
    at which the inode, or the names in the directory, have.  `cached` and `passed` count the
    handles, by how the kernel reads and writes.
    """

    __slots__ = ("cached", "fd", "given", "nlink", "passed", "seen", "store", "target")

    names: dict[bytes, Node]  # of a directory
    parent: Node
    target: bytes  # of a symbolic link

    def __init__(self, number: int, kind: int) -> None:
        super().__init__(number, kind)
        self.nlink = 1
        self.cached = self.passed = self.seen = 0
        self.given = False
        self.store: Store | None = None
        self.fd = -1

    def refresh(self) -> None:
        """Bring the entry up to date."""
        entry, changed = self.entry, self.stale
        if self.is_dir:
            seconds, ns = divmod(changed, NS)
            put_longs(entry, MTIME_AT, seconds, seconds)
            put_words(entry, MTIME_NS_AT, ns, ns)
            self.stale = 0
            return
        if self.store is not None:
            st = os.fstat(self.fd)
            put_longs(entry, SIZE_AT, st.st_size, st.st_blocks)
            if st.st_mtime_ns > self.seen:
                self.seen = changed = st.st_mtime_ns
                seconds, ns = divmod(changed, NS)
                put_long(entry, MTIME_AT, seconds)
                put_word(entry, MTIME_NS_AT, ns)
        if changed > LOOK:
            seconds, ns = divmod(changed, NS)
            put_long(entry, CTIME_AT, seconds)
            put_word(entry, CTIME_NS_AT, ns)
            put_word(entry, NLINK_AT, self.nlink)
        self.stale = LOOK if self.passed else 0


class Tree(Listings[Node]):
    """All inodes, and what the kernel has to know to open files of them."""

    def __init__(self, layers: list[str]) -> None:
        """Make the tree of what `layers`, the topmost first, show together, without whiteouts."""
        super().__init__()
        self._numbers = count(ROOT)
        self._unused: list[Store] = []
        self.root = self._of_layer(os.stat(layers[0]))
        self.root.parent = self.root
        for layer in layers:
            self._load(self.root, layer)

    # -- inodes --

    def add(self, mode: int, uid: int, gid: int, rdev: int = 0, now: int = 0) -> Node:
        """Make an inode with the times `now`, in ns."""
        number = next(self._numbers)
        node = self.nodes[number] = Node(number, mode >> 12)
        seconds, ns = divmod(now, NS)
        _put_entry(
            node.entry,
            0,
            *(number, VALID, number, 0, 0, seconds, seconds, seconds, ns, ns, ns),
            *(mode, 1, uid, gid, rdev, 4096, 0),
        )
        if node.is_dir:
            node.names = {}
        return node

    def names(self, directory: Node) -> dict[bytes, Node]:
        return directory.names

    def removed(self, node: Node, now: int) -> None:
        """Note that a name of `node` is gone."""
        node.nlink -= 1
        node.stale = now
        if not (node.nlink or node.cached or node.passed):
            self.free(node)

    def free(self, node: Node) -> None:
        """Take back the content of an inode without names and handles."""
        if node.store is not None:
            os.ftruncate(node.fd, 0)
            self._unused.append(node.store)
            node.store, node.fd = None, -1

    # -- content --

    def content(self, node: Node) -> int:
        return node.fd

    def take_store(self) -> Store:
        """Return an empty memfd."""
        return self._unused.pop() if self._unused else Store(self.device)

    def copy_up(self, node: Node, *, keeps: bool) -> None:
        """Give a file a content that may be written, which is what it had if `keeps`."""
        if node.store is not None:
            return
        store = self.take_store()
        if node.fd >= 0:
            at = 0
            os.lseek(store.fd, 0, os.SEEK_SET)
            while keeps and (got := os.sendfile(store.fd, node.fd, at, _COPIED)):
                at += got
            os.close(node.fd)
        node.store, node.fd, node.given = store, store.fd, True
        node.seen = time.time_ns()

    def open(self, node: Node, flags: int) -> bytes:
        """Open a file; return the reply."""
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            self.copy_up(node, keeps=not flags & os.O_TRUNC)
            if flags & os.O_TRUNC:
                os.ftruncate(node.fd, 0)
            if not node.stale:
                node.stale = LOOK
        store = node.store
        # An inode that is passed through is cached only when all have closed it.
        if store is not None and store.opened and not node.cached:
            node.passed += 1
            return store.opened
        node.cached += 1
        if not node.given:
            node.given = True
            self.give(node, node.fd)
        return OPENED if store is None else _OPENED_WRITTEN

    # -- the layers --

    def _of_layer(self, st: os.stat_result) -> Node:
        node = self.add(st.st_mode, st.st_uid, st.st_gid, _device_number(st.st_rdev))
        entry = node.entry
        put_longs(entry, SIZE_AT, st.st_size, st.st_blocks)
        for at, ns_at, time_ns in (
            (ATIME_AT, ATIME_NS_AT, st.st_atime_ns),
            (MTIME_AT, MTIME_NS_AT, st.st_mtime_ns),
            (CTIME_AT, CTIME_NS_AT, st.st_ctime_ns),
        ):
            seconds, ns = divmod(time_ns, NS)
            put_long(entry, at, seconds)
            put_word(entry, ns_at, ns)
        return node

    def _load(self, parent: Node, path: str) -> None:
        with os.scandir(path) as found:
            for item in found:
                name = os.fsencode(item.name) + b"\0"
                above = parent.names.get(name)
                is_dir = item.is_dir(follow_symlinks=False)
                if above is not None and not (is_dir and above.is_dir):
                    continue
                if above is None:
                    st = item.stat(follow_symlinks=False)
                    node = parent.names[name] = self._of_layer(st)
                    if is_dir:
                        node.parent = parent
                    elif item.is_symlink():
                        node.target = os.fsencode(os.readlink(item.path))
                    elif stat.S_ISREG(st.st_mode) and st.st_size:
                        node.fd = os.open(item.path, os.O_RDONLY | os.O_NOFOLLOW)
                    else:
                        node.given = True
                if is_dir:
                    self._load(parent.names[name], item.path)


def _device_number(rdev: int) -> int:
    major, minor = os.major(rdev), os.minor(rdev)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
