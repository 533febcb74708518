"""The answers of the Python floor: a closure for each opcode, made for one place in memory.

Those of `common` are the union's as well.

Source: include/uapi/linux/fuse.h.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.floor_python import listings as nodes_of
from benchmarks.floor_python.listings import (
    LEAST_LISTED,
    NEGATIVE,
    Listings,
    N,
    cookie_of,
    drop_name,
    put_long,
    put_word,
)
from benchmarks.floor_python.tree import NS, Node, Tree
from unionfs.wire import abi
from unionfs.wire.abi import (
    FATTR_ATIME,
    FATTR_GID,
    FATTR_MODE,
    FATTR_MTIME,
    FATTR_SIZE,
    FATTR_UID,
    Opcode,
)
from unionfs.wire.request import Room

# Called with the inode and the end of what follows the struct; returns the length of the reply,
# or a negative errno.
Handler = Callable[[int, int], int]

IDS_AT = 24  # uid and gid, in IN_HEADER
IDS = abi.INIT_IN  # four words, of which the first two are wanted
_PERMISSIONS = 0o7777


class Place(NamedTuple):
    """Where a request is in memory, and its reply.

    The header of the request begins `head`.  The struct of the opcode is there at `at`, and what
    follows in `rest`, which is `head` itself or, over io_uring, a room of its own.  The reply
    goes to `out` from `body` on.
    """

    head: Room
    at: int
    rest: mmap.mmap
    out: mmap.mmap
    body: int

    def after(self, size: int) -> int:
        """Return where what follows a struct of `size` bytes begins in `rest`."""
        return self.at + size if self.rest is self.head else 0


# Makes the handler of each opcode for one place.
Handlers = Callable[[Place], list[Handler]]


def common(tree: Listings[N], place: Place) -> list[Handler]:
    """Return the handlers that do not depend on where names and files are."""

    def refuse(nodeid: int, end: int) -> int:
        return -errno.ENOSYS  # the kernel does not send this opcode again

    made: list[Handler] = [refuse] * 64
    made[Opcode.GETATTR] = _get_attributes(tree, place)
    made[Opcode.READ] = _read(tree, place)
    made[Opcode.WRITE] = _write(tree, place)
    made[Opcode.LSEEK] = _seek(tree, place)
    made[Opcode.READDIRPLUS] = _list(tree, place)
    made[Opcode.STATFS] = _statistics(place)
    made[Opcode.GETXATTR] = lambda nodeid, end: -errno.ENODATA
    made[Opcode.LISTXATTR] = _list_xattrs(place)
    made[Opcode.FORGET] = made[Opcode.BATCH_FORGET] = lambda nodeid, end: 0
    return made


def handlers(tree: Tree, place: Place) -> list[Handler]:
    """Return the handler of each opcode."""
    made = common(tree, place)
    made[Opcode.LOOKUP] = _look_up(tree, place)
    made[Opcode.SETATTR] = _set_attributes(tree, place)
    made[Opcode.OPEN] = _open(tree, place)
    made[Opcode.CREATE] = _create(tree, place)
    made[Opcode.RELEASE] = _release(tree, place)
    made[Opcode.UNLINK] = made[Opcode.RMDIR] = _unlink(tree, place)
    made[Opcode.RENAME] = _rename(tree, place, abi.RENAME_IN.size)
    made[Opcode.RENAME2] = _rename(tree, place, abi.RENAME2_IN.size)
    made[Opcode.MKNOD] = _make_node(tree, place)
    made[Opcode.MKDIR] = _make_directory(tree, place)
    made[Opcode.SYMLINK] = _make_symlink(tree, place)
    made[Opcode.LINK] = _make_link(tree, place)
    made[Opcode.READLINK] = _read_link(tree, place)
    return made


# -- names --


def _look_up(tree: Tree, place: Place) -> Handler:
    nodes, looked_up = tree.nodes, tree.looked_up
    rest, start, out = place.rest, place.after(0), place.out
    whole = slice(place.body, place.body + abi.ENTRY_SIZE)

    def handle(nodeid: int, end: int) -> int:
        parent = nodes[nodeid]
        node = parent.names.get(rest[start:end])
        if node is None:
            out[whole] = NEGATIVE
            return 128
        if node.stale:
            node.refresh()
        if parent.bare:
            looked_up(parent, node)
        out[whole] = node.entry
        return 128

    return handle


def _unlink(tree: Tree, place: Place) -> Handler:
    nodes, removed, now = tree.nodes, tree.removed, time.time_ns
    rest, start = place.rest, place.after(0)

    def handle(nodeid: int, end: int) -> int:
        parent = nodes[nodeid]
        name = rest[start:end]
        node = parent.names.get(name)
        if node is None:
            return -errno.ENOENT
        if node.is_dir and node.names:
            return -errno.ENOTEMPTY
        del parent.names[name]
        drop_name(parent, name)
        parent.stale = changed = now()
        removed(node, changed)
        return 0

    return handle


def _rename(tree: Tree, place: Place, size: int) -> Handler:
    nodes, removed, now = tree.nodes, tree.removed, time.time_ns
    head, at, rest, start = place.head, place.at, place.rest, place.after(size)
    unpack = abi.RENAME2_IN.unpack_from
    has_flags = size == abi.RENAME2_IN.size

    def handle(nodeid: int, end: int) -> int:
        newdir, flags, _ = unpack(head, at)
        parent, target = nodes[nodeid], nodes[newdir]
        before, _, after = rest[start:end].partition(b"\0")
        before += b"\0"
        node, there = parent.names.get(before), target.names.get(after)
        if node is None:
            return -errno.ENOENT
        if there is not None:
            if has_flags and flags:
                return -errno.EEXIST
            if there is node:
                return 0
            if there.is_dir and there.names:
                return -errno.ENOTEMPTY
        changed = now()
        if there is not None:
            del target.names[after]
            removed(there, changed)
        drop_name(target, after)
        drop_name(parent, before)
        del parent.names[before]
        target.names[after] = node
        parent.stale = target.stale = changed
        if node.is_dir:
            node.parent = target
            node.listing = []
        else:
            node.stale = changed
        return 0

    return handle


def _make(tree: Tree, parent: Node, name: bytes, mode: int, head: Room, rdev: int = 0) -> Node:
    """Make an inode of the caller's, with a name."""
    uid, gid, _, _ = IDS.unpack_from(head, IDS_AT)
    parent.stale = now = time.time_ns()
    node = parent.names[name] = tree.add(mode, uid, gid, rdev, now)
    parent.listing = []
    return node


def _make_node(tree: Tree, place: Place) -> Handler:
    start = place.after(abi.MKNOD_IN.size)

    def handle(nodeid: int, end: int) -> int:
        mode, rdev, umask, _ = abi.MKNOD_IN.unpack_from(place.head, place.at)
        name = place.rest[start:end]
        node = _make(tree, tree.nodes[nodeid], name, mode & ~umask, place.head, rdev)
        return _put(node, place)

    return handle


def _make_directory(tree: Tree, place: Place) -> Handler:
    start = place.after(abi.MKDIR_IN.size)

    def handle(nodeid: int, end: int) -> int:
        mode, umask = abi.MKDIR_IN.unpack_from(place.head, place.at)
        parent, name = tree.nodes[nodeid], place.rest[start:end]
        node = _make(tree, parent, name, stat.S_IFDIR | (mode & ~umask), place.head)
        node.parent = parent
        return _put(node, place)

    return handle


def _make_symlink(tree: Tree, place: Place) -> Handler:
    start = place.after(0)

    def handle(nodeid: int, end: int) -> int:
        name, target, _ = place.rest[start:end].split(b"\0")
        parent = tree.nodes[nodeid]
        node = _make(tree, parent, name + b"\0", stat.S_IFLNK | 0o777, place.head)
        node.target = target
        put_long(node.entry, nodes_of.SIZE_AT, len(target))
        return _put(node, place)

    return handle


def _make_link(tree: Tree, place: Place) -> Handler:
    start = place.after(abi.LINK_IN.size)

    def handle(nodeid: int, end: int) -> int:
        parent = tree.nodes[nodeid]
        node = tree.nodes[abi.LINK_IN.unpack_from(place.head, place.at)[0]]
        parent.names[place.rest[start:end]] = node
        parent.listing = []
        node.nlink += 1
        parent.stale = node.stale = time.time_ns()
        return _put(node, place)

    return handle


def _put(node: Node, place: Place) -> int:
    """Answer with the entry of `node`."""
    if node.stale:
        node.refresh()
    place.out[place.body : place.body + abi.ENTRY_SIZE] = node.entry
    return abi.ENTRY_SIZE


# -- attributes --


def _get_attributes(tree: Listings[N], place: Place) -> Handler:
    nodes, out = tree.nodes, place.out
    whole = slice(place.body, place.body + abi.ATTR_SIZE)
    begin = abi.ENTRY_SIZE - abi.ATTR_SIZE  # the end of an entry is the reply to a GETATTR

    def handle(nodeid: int, end: int) -> int:
        node = nodes[nodeid]
        if node.stale:
            node.refresh()
        out[whole] = node.entry[begin:]
        return 104

    return handle


def _set_attributes(tree: Tree, place: Place) -> Handler:
    nodes, now, out = tree.nodes, time.time_ns, place.out
    whole, begin = slice(place.body, place.body + abi.ATTR_SIZE), abi.ENTRY_SIZE - abi.ATTR_SIZE
    head, at, unpack = place.head, place.at, abi.SETATTR_IN.unpack_from

    def handle(nodeid: int, end: int) -> int:
        valid, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, uid, gid = unpack(head, at)
        node = nodes[nodeid]
        entry = node.entry
        if valid & FATTR_SIZE:
            tree.copy_up(node, keeps=size > 0)
            os.ftruncate(node.fd, size)
            node.stale = nodes_of.LOOK
        if node.stale:
            node.refresh()
        seconds, ns = divmod(now(), NS)
        put_long(entry, nodes_of.CTIME_AT, seconds)
        put_word(entry, nodes_of.CTIME_NS_AT, ns)
        if valid & FATTR_MODE:
            old = nodes_of.get_word(entry, nodes_of.MODE_AT)[0]
            put_word(entry, nodes_of.MODE_AT, old & ~_PERMISSIONS | mode & _PERMISSIONS)
        if valid & FATTR_UID:
            put_word(entry, nodes_of.UID_AT, uid)
        if valid & FATTR_GID:
            put_word(entry, nodes_of.GID_AT, gid)
        if valid & FATTR_ATIME:
            put_long(entry, nodes_of.ATIME_AT, atime)
            put_word(entry, nodes_of.ATIME_NS_AT, atime_ns)
        if valid & FATTR_MTIME:
            put_long(entry, nodes_of.MTIME_AT, mtime)
            put_word(entry, nodes_of.MTIME_NS_AT, mtime_ns)
        out[whole] = entry[begin:]
        return 104

    return handle


def _statistics(place: Place) -> Handler:
    many = 1 << 30
    reply = abi.STATFS_OUT.pack(many, many, many, many, many, 4096, 255, 4096)
    whole = slice(place.body, place.body + len(reply))

    def handle(nodeid: int, end: int) -> int:
        place.out[whole] = reply
        return len(reply)

    return handle


def _list_xattrs(place: Place) -> Handler:
    def handle(nodeid: int, end: int) -> int:
        if abi.GETXATTR_IN.unpack_from(place.head, place.at)[0]:
            return 0
        abi.GETXATTR_OUT.pack_into(place.out, place.body, 0, 0)
        return abi.GETXATTR_OUT.size

    return handle


def _read_link(tree: Tree, place: Place) -> Handler:
    def handle(nodeid: int, end: int) -> int:
        target = tree.nodes[nodeid].target
        place.out[place.body : place.body + len(target)] = target
        return len(target)

    return handle


# -- files --


def _open(tree: Tree, place: Place) -> Handler:
    nodes, opened, out = tree.nodes, tree.open, place.out
    flags = memoryview(place.head).cast("I")
    at = place.at >> 2
    whole = slice(place.body, place.body + abi.OPEN_OUT.size)

    def handle(nodeid: int, end: int) -> int:
        out[whole] = opened(nodes[nodeid], flags[at])
        return 16

    return handle


def _create(tree: Tree, place: Place) -> Handler:
    nodes, add, take_store, now = tree.nodes, tree.add, tree.take_store, time.time_ns
    head, at, rest, out = place.head, place.at, place.rest, place.out
    start = place.after(abi.CREATE_IN.size)
    unpack, ids = abi.CREATE_IN.unpack_from, IDS.unpack_from
    size = abi.ENTRY_SIZE + abi.OPEN_OUT.size
    whole = slice(place.body, place.body + size)

    def handle(nodeid: int, end: int) -> int:
        _, mode, umask, _ = unpack(head, at)
        uid, gid, _, _ = ids(head, IDS_AT)
        parent = nodes[nodeid]
        parent.stale = changed = now()
        node = parent.names[rest[start:end]] = add(mode & ~umask, uid, gid, 0, changed)
        parent.listing = []
        node.store = store = take_store()
        node.fd, node.given, node.seen, node.stale = store.fd, True, changed, nodes_of.LOOK
        if store.opened:
            node.passed = 1
            out[whole] = node.entry + store.opened
        else:
            out[whole] = node.entry + tree.open(node, os.O_WRONLY)
        return size

    return handle


def _release(tree: Tree, place: Place) -> Handler:
    nodes, free = tree.nodes, tree.free
    handles = memoryview(place.head).cast("Q")
    at = place.at >> 3

    def handle(nodeid: int, end: int) -> int:
        node = nodes[nodeid]
        if handles[at]:
            node.passed -= 1
        else:
            node.cached -= 1
        if not (node.nlink or node.passed or node.cached):
            free(node)
        return 0

    return handle


def _read(tree: Listings[N], place: Place) -> Handler:
    nodes, content, out, body = tree.nodes, tree.content, memoryview(place.out), place.body

    def handle(nodeid: int, end: int) -> int:
        _, offset, size, *_ = abi.READ_IN.unpack_from(place.head, place.at)
        fd = content(nodes[nodeid])
        return 0 if fd < 0 else os.preadv(fd, [out[body : body + size]], offset)

    return handle


def _write(tree: Listings[N], place: Place) -> Handler:
    rest, start = memoryview(place.rest), place.after(abi.WRITE_IN.size)

    def handle(nodeid: int, end: int) -> int:
        _, offset, size, *_ = abi.WRITE_IN.unpack_from(place.head, place.at)
        node = tree.nodes[nodeid]
        done = os.pwrite(tree.content(node), rest[start : start + size], offset)
        node.stale = node.stale or nodes_of.LOOK
        abi.WRITE_OUT.pack_into(place.out, place.body, done, 0)
        return abi.WRITE_OUT.size

    return handle


def _seek(tree: Listings[N], place: Place) -> Handler:
    def handle(nodeid: int, end: int) -> int:
        _, offset, whence, _ = abi.LSEEK_IN.unpack_from(place.head, place.at)
        fd = tree.content(tree.nodes[nodeid])
        if fd < 0:
            return -errno.ENXIO
        abi.LSEEK_OUT.pack_into(place.out, place.body, os.lseek(fd, offset, whence))
        return abi.LSEEK_OUT.size

    return handle


# -- listings --


def _list(tree: Listings[N], place: Place) -> Handler:
    nodes, head, at, out, body = tree.nodes, place.head, place.at, place.out, place.body
    unpack = abi.READ_IN.unpack_from

    def handle(nodeid: int, end: int) -> int:
        _, offset, size, *_ = unpack(head, at)
        directory = nodes[nodeid]
        what = tree.what_to_list(directory, offset)
        # What comes after so many bytes is asked for again, and then has no attributes.
        enough = min(size, tree.left) if what else size
        most = None if offset else enough // LEAST_LISTED + 1
        listing = tree.listing(directory, what, most)
        if offset and cookie_of(bytes(listing[-1])) <= offset:
            return 0
        reply = b"" if offset else b"".join(listing)
        if offset or len(reply) > enough:
            reply = b"".join(_part(listing, offset, size, enough))
        out[body : body + len(reply)] = reply
        if what:
            tree.was_listed(directory, len(reply))
        return len(reply)

    return handle


def _part(
    listing: list[bytes | bytearray], offset: int, size: int, enough: int
) -> list[bytes | bytearray]:
    """Return the names after cookie `offset` in up to `size` bytes, until there is `enough`."""
    part: list[bytes | bytearray] = []
    taken = 0
    for entry, tail in zip(listing[::2], listing[1::2], strict=True):
        if cookie_of(bytes(tail)) > offset:
            taken += len(entry) + len(tail)
            if taken > size:
                break
            part += (entry, tail)
            if taken > enough:
                break
    return part
