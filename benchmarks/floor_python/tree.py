"""The tree of the Python floor: directories, names and packed attributes, in memory.

As in `floor_tree.c` the content of a layer's file is read from the layer, what is written goes
to a memfd by passthrough, and a copy_up copies to one without waiting for a disk.  The memfds,
registered for passthrough, are used again for the next file.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import time

from unionfs.wire import abi

FOREVER = 1 << 31  # seconds
VALID = abi.ENTRY_VALID.pack(0, FOREVER, FOREVER, 0, 0)
NEGATIVE = abi.ENTRY_HEAD.pack(0, VALID) + bytes(abi.ATTR.size)
NO_ENTRY = bytes(abi.ENTRY_SIZE)
ROOT = 1
LOOK = 1  # of `Node.stale`
NS = 1_000_000_000

# What to list with attributes, and for how long; see unionfs/wire/dirs.py.
DIRECTORIES, ALL_BUT_A_FILE, EVERYTHING = range(3)
TRIAL, WATCHED = 32, 1024  # directories
AT_FIRST, PATIENCE = 16 << 10, 4 << 20  # bytes
_DOTS = 2
_MOST_GIVEN = 128 << 10  # bytes of a file that is given to the kernel as a whole
_COPIED = 1 << 20
_IFMT = 0o170000

# Where the fields of ATTR are in an entry.
_ATTR = abi.ENTRY_HEAD.size
SIZE_AT = _ATTR + 8
ATIME_AT, MTIME_AT, CTIME_AT = _ATTR + 24, _ATTR + 32, _ATTR + 40
ATIME_NS_AT, MTIME_NS_AT, CTIME_NS_AT = _ATTR + 48, _ATTR + 52, _ATTR + 56
MODE_AT, NLINK_AT, UID_AT, GID_AT = _ATTR + 60, _ATTR + 64, _ATTR + 68, _ATTR + 72
put_word = struct.Struct("=I").pack_into
put_long = struct.Struct("=q").pack_into
get_word = struct.Struct("=I").unpack_from
put_words = struct.Struct("=II").pack_into
put_longs = struct.Struct("=qq").pack_into

_put_entry = abi.ENTRY_OUT.pack_into
_READ_FLAGS = abi.FOPEN_NOFLUSH
_OPENED = abi.OPEN_OUT.pack(0, _READ_FLAGS | abi.FOPEN_KEEP_CACHE, 0)
_OPENED_WRITTEN = abi.OPEN_OUT.pack(0, _READ_FLAGS, 0)


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
        flags = abi.FOPEN_NOFLUSH | abi.FOPEN_PASSTHROUGH
        self.opened = abi.OPEN_OUT.pack(1, flags, backing)


class Node:
    """An inode.

    `entry` is the reply to its LOOKUP, of 128 bytes.  `stale` is 0 if that holds, `LOOK` if the
    content may have changed, else the time in ns at which the inode, or the names in the
    directory, have.  `cached` and `passed` count the handles, by how the kernel reads and writes.
    Names end in a NUL byte, as in requests.
    """

    __slots__ = (
        "bare",
        "bare_listing",
        "cached",
        "entry",
        "fd",
        "given",
        "is_dir",
        "listing",
        "names",
        "nlink",
        "parent",
        "passed",
        "seen",
        "stale",
        "store",
        "tails",
        "target",
    )

    names: dict[bytes, Node]  # of a directory
    parent: Node
    tails: dict[bytes, bytes]  # of the names that were listed: what follows the entry
    listing: list[bytes | bytearray]  # with all entries; empty if it has to be made anew
    bare_listing: list[bytes | bytearray]  # with those of directories alone
    bare: int  # when it was listed so
    target: bytes  # of a symbolic link

    def __init__(self, entry: bytearray) -> None:
        self.entry = entry
        self.is_dir = False
        self.nlink = 1
        self.stale = self.cached = self.passed = self.seen = 0
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


class Tree:
    """All inodes, and what the kernel has to know to open files of them."""

    def __init__(self, layers: list[str]) -> None:
        """Make the tree of what `layers`, the topmost first, show together, without whiteouts."""
        self.device = -1  # /dev/fuse
        self.nodes: list[Node] = []
        self._unused: list[Store] = []
        self.add(0, 0, 0)  # no inode has the number 0
        self.root = self._of_layer(os.stat(layers[0]))
        self.root.parent = self.root
        # Whether programs want the attributes of the files that they list.
        self.wanted, self.seen = True, False
        self.listed = self.last_bare = 0
        self.left = AT_FIRST
        for layer in layers:
            self._load(self.root, layer)

    # -- inodes --

    def add(self, mode: int, uid: int, gid: int, rdev: int = 0, now: int = 0) -> Node:
        """Make an inode with the times `now`, in ns."""
        nodes = self.nodes
        number = len(nodes)
        entry = bytearray(128)
        seconds, ns = divmod(now, NS)
        _put_entry(
            entry,
            0,
            *(number, VALID, number, 0, 0, seconds, seconds, seconds, ns, ns, ns),
            *(mode, 1, uid, gid, rdev, 4096, 0),
        )
        node = Node(entry)
        nodes.append(node)
        if mode & _IFMT == stat.S_IFDIR:
            node.is_dir = True
            node.names, node.tails, node.bare = {}, {}, 0
            node.listing, node.bare_listing = [], []
        return node

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
            self._give(node)
        return _OPENED if store is None else _OPENED_WRITTEN

    def _give(self, node: Node) -> None:
        """Give the kernel the content of a small file of a layer, which saves the READ."""
        if node.fd < 0 or abi.ATTR.unpack_from(node.entry, _ATTR)[1] > _MOST_GIVEN:
            return
        data = os.pread(node.fd, _MOST_GIVEN, 0)
        body = abi.NOTIFY_STORE_OUT.pack(_number(node), 0, len(data))
        size = abi.OUT_HEADER.size + len(body) + len(data)
        head = abi.OUT_HEADER.pack(size, abi.NOTIFY_STORE, 0)
        try:
            os.writev(self.device, [head, body, data])
        except OSError:
            return  # best effort: a READ will come

    # -- listings --

    def what_to_list(self, directory: Node, offset: int) -> int:
        """Return what to list with attributes in a directory, as `unionfs.wire.dirs` decides it."""
        if offset:
            return EVERYTHING if self.wanted else DIRECTORIES
        what = DIRECTORIES
        if self.wanted:
            self.listed += 1
            if self.seen and self.listed % TRIAL:
                directory.bare = 0
                return EVERYTHING
            what = ALL_BUT_A_FILE
        self._watch(directory)
        return what

    def _watch(self, directory: Node) -> None:
        self.last_bare += 1
        directory.bare = self.last_bare

    def was_listed(self, directory: Node, size: int) -> None:
        """Note that `size` bytes of a listing have attributes."""
        self.left -= size
        if self.left < 0:
            self.wanted = False
            self._watch(directory)

    def looked_up(self, parent: Node, node: Node) -> None:
        """Note a lookup in a directory that was listed without attributes of all files."""
        if parent.bare > self.last_bare - WATCHED and not node.is_dir:
            parent.bare = self.listed = 0
            self.wanted = self.seen = True
            self.left = PATIENCE

    def listing(self, directory: Node, what: int) -> list[bytes | bytearray]:
        """Return the entry and what follows it of each name, in turn, as READDIRPLUS has them.

        What is not to be listed with attributes has no entry.
        """
        if not directory.listing:
            self._make_listings(directory)
        if what == DIRECTORIES:
            return directory.bare_listing
        listing = directory.listing
        first = -1
        for at, node in enumerate(directory.names.values(), _DOTS):
            if node.stale:
                node.refresh()
            if first < 0 and not node.is_dir:
                first = 2 * at
        if what == EVERYTHING or first < 0:
            return listing
        return [*listing[:first], NO_ENTRY, *listing[first + 1 :]]

    def _make_listings(self, directory: Node) -> None:
        whole, bare = directory.listing, directory.bare_listing
        bare.clear()
        for cookie, (name, node) in enumerate(((b".", directory), (b"..", directory.parent)), 1):
            whole += (NO_ENTRY, _tail(name, node, cookie))
            bare += whole[-2:]
        cookie, tails = 2, directory.tails
        # A new name is the last one, and gets a cookie after all that are there.
        for name, node in directory.names.items():
            tail = tails.get(name)
            if tail is None:
                tail = tails[name] = _tail(name[:-1], node, cookie + 1)
            cookie = cookie_of(tail)
            whole += (node.entry, tail)
            bare += (node.entry if node.is_dir else NO_ENTRY, tail)

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


def _number(node: Node) -> int:
    number: int = abi.ENTRY_HEAD.unpack_from(node.entry)[0]
    return number


def cookie_of(tail: bytes) -> int:
    """Return the offset of a directory after the name with this `tail`."""
    cookie: int = abi.DIRENT.unpack_from(tail)[1]
    return cookie


def _tail(name: bytes, node: Node, cookie: int) -> bytes:
    mode = get_word(node.entry, MODE_AT)[0]
    tail = abi.DIRENT.pack(_number(node), cookie, len(name), mode >> 12) + name
    return tail.ljust(len(tail) + 7 & ~7, b"\0")


def _device_number(rdev: int) -> int:
    major, minor = os.major(rdev), os.minor(rdev)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
