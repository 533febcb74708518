"""The answers of the least union in Python, beside those that it has in common with the floor."""

from __future__ import annotations

import errno
import os
import stat

from benchmarks.floor_python.answers import IDS, IDS_AT, Handler, Place, common
from benchmarks.floor_python.copies import NEW
from benchmarks.floor_python.inode import Node
from benchmarks.floor_python.listings import DT_DIR, DT_REG, NEGATIVE
from benchmarks.floor_python.union import Union
from unionfs.syscalls.attributes import utimens_at
from unionfs.syscalls.renameat2 import RENAME_NOREPLACE
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

_NS = 1_000_000_000
_KEPT = -1  # of an owner that does not change


def handlers(union: Union, place: Place) -> list[Handler]:
    """Return the handler of each opcode."""
    made = common(union, place)
    made[Opcode.LOOKUP] = _look_up(union, place)
    made[Opcode.SETATTR] = _set_attributes(union, place)
    made[Opcode.OPEN] = _open(union, place)
    made[Opcode.CREATE] = _create(union, place)
    made[Opcode.RELEASE] = _release(union, place)
    made[Opcode.FORGET] = _forget(union)
    made[Opcode.BATCH_FORGET] = _forget_several(union, place)
    made[Opcode.FSYNC] = _sync(union)
    made[Opcode.UNLINK] = _unlink(union, place)
    made[Opcode.RMDIR] = _rmdir(union, place)
    made[Opcode.RENAME] = _rename(union, place, abi.RENAME_IN.size)
    made[Opcode.RENAME2] = _rename(union, place, abi.RENAME2_IN.size)
    made[Opcode.MKNOD] = _make_node(union, place)
    made[Opcode.MKDIR] = _make_directory(union, place)
    made[Opcode.SYMLINK] = _make_symlink(union, place)
    made[Opcode.LINK] = _make_link(union, place)
    made[Opcode.READLINK] = _read_link(union, place)
    return made


# -- names --


def _look_up(union: Union, place: Place) -> Handler:
    nodes, read, looked_up = union.nodes, union.names, union.looked_up
    rest, start, out = place.rest, place.after(0), place.out
    whole = slice(place.body, place.body + abi.ENTRY_SIZE)

    def handle(nodeid: int, end: int) -> int:
        parent = nodes[nodeid]
        names = read(parent) if parent.unread else parent.names
        node = names.get(rest[start:end])
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


def _unlink(union: Union, place: Place) -> Handler:
    rest, start = place.rest, place.after(0)

    def handle(nodeid: int, end: int) -> int:
        union.unlink(union.nodes[nodeid], rest[start:end])
        return 0

    return handle


def _rmdir(union: Union, place: Place) -> Handler:
    rest, start = place.rest, place.after(0)

    def handle(nodeid: int, end: int) -> int:
        union.rmdir(union.nodes[nodeid], rest[start:end])
        return 0

    return handle


def _rename(union: Union, place: Place, size: int) -> Handler:
    nodes, unpack = union.nodes, abi.RENAME2_IN.unpack_from
    head, at, rest, start = place.head, place.at, place.rest, place.after(size)
    has_flags = size == abi.RENAME2_IN.size

    def handle(nodeid: int, end: int) -> int:
        newdir, flags, _ = unpack(head, at)
        if not has_flags:
            flags = 0
        if flags & ~RENAME_NOREPLACE:
            return -errno.EINVAL
        before, after, _ = rest[start:end].split(b"\0")
        old, new = before + b"\0", after + b"\0"
        union.rename(nodes[nodeid], old, nodes[newdir], new, new=bool(flags))
        return 0

    return handle


def _give(node: Node, head: Room) -> None:
    """Make what was made that of the caller."""
    uid, gid, _, _ = IDS.unpack_from(head, IDS_AT)
    if uid or gid:
        os.chown(node.name, uid, gid, dir_fd=node.at, follow_symlinks=False)


def _put(node: Node, place: Place) -> int:
    """Answer with the entry of `node`."""
    node.refresh()
    place.out[place.body : place.body + abi.ENTRY_SIZE] = node.entry
    return abi.ENTRY_SIZE


def _make_node(union: Union, place: Place) -> Handler:
    start = place.after(abi.MKNOD_IN.size)

    def handle(nodeid: int, end: int) -> int:
        mode, rdev, umask, _ = abi.MKNOD_IN.unpack_from(place.head, place.at)
        parent, key = union.nodes[nodeid], place.rest[start:end]
        at, name = union.make(parent, key)
        os.mknod(name, mode & ~umask, rdev, dir_fd=at)
        node = union.add(stat.S_IFMT(mode) >> 12, at, name)
        _give(node, place.head)
        union.made(parent, key, node)
        return _put(node, place)

    return handle


def _make_directory(union: Union, place: Place) -> Handler:
    start = place.after(abi.MKDIR_IN.size)

    def handle(nodeid: int, end: int) -> int:
        mode, umask = abi.MKDIR_IN.unpack_from(place.head, place.at)
        parent, key = union.nodes[nodeid], place.rest[start:end]
        at, name = union.make(parent, key)
        os.mkdir(name, mode & ~umask, dir_fd=at)
        node = union.add(DT_DIR, at, name)
        _give(node, place.head)
        node.unread, node.names, node.below, node.whiteouts = False, {}, {}, set()
        union.made(parent, key, node)
        return _put(node, place)

    return handle


def _make_symlink(union: Union, place: Place) -> Handler:
    start = place.after(0)

    def handle(nodeid: int, end: int) -> int:
        new, target, _ = place.rest[start:end].split(b"\0")
        parent, key = union.nodes[nodeid], new + b"\0"
        at, name = union.make(parent, key)
        os.symlink(target, name, dir_fd=at)
        node = union.add(stat.S_IFLNK >> 12, at, name)
        _give(node, place.head)
        union.made(parent, key, node)
        return _put(node, place)

    return handle


def _make_link(union: Union, place: Place) -> Handler:
    start = place.after(abi.LINK_IN.size)

    def handle(nodeid: int, end: int) -> int:
        node = union.nodes[abi.LINK_IN.unpack_from(place.head, place.at)[0]]
        union.link(node, union.nodes[nodeid], place.rest[start:end])
        return _put(node, place)

    return handle


def _read_link(union: Union, place: Place) -> Handler:
    def handle(nodeid: int, end: int) -> int:
        node = union.nodes[nodeid]
        target = os.readlink(node.name, dir_fd=node.at)
        place.out[place.body : place.body + len(target)] = target
        return len(target)

    return handle


# -- attributes --


def _set_attributes(union: Union, place: Place) -> Handler:
    nodes, out = union.nodes, place.out
    whole, begin = slice(place.body, place.body + abi.ATTR_SIZE), abi.ENTRY_SIZE - abi.ATTR_SIZE
    head, at, unpack = place.head, place.at, abi.SETATTR_IN.unpack_from

    def handle(nodeid: int, end: int) -> int:
        valid, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, uid, gid = unpack(head, at)
        node = nodes[nodeid]
        staged = b""
        if node.is_dir:
            union.upper_of(node)
        elif not node.in_upper:
            staged = union.stage(node, keeps=not valid & FATTR_SIZE or size > 0)
        # Its fd, or where it has its name.
        what: int | bytes = node.fd
        where = None
        if node.fd < 0:
            what, where = (staged, union.work) if staged else (node.name, node.at)
        if valid & FATTR_SIZE:
            _truncate(what, where, size)
        if valid & (FATTR_UID | FATTR_GID):
            owner = uid if valid & FATTR_UID else _KEPT
            group = gid if valid & FATTR_GID else _KEPT
            os.chown(what, owner, group, dir_fd=where, follow_symlinks=where is None)
        if valid & FATTR_MODE:
            os.chmod(what, mode & 0o7777, dir_fd=where)
        if valid & FATTR_ATIME and valid & FATTR_MTIME:
            times = (atime * _NS + atime_ns, mtime * _NS + mtime_ns)
            os.utime(what, ns=times, dir_fd=where, follow_symlinks=where is None)
        elif valid & FATTR_ATIME:
            _set_times(what, where, atime * _NS + atime_ns, None)
        elif valid & FATTR_MTIME:
            _set_times(what, where, None, mtime * _NS + mtime_ns)
        if staged:
            union.publish(node, staged)
        node.refresh()
        if staged:
            union.settle(node)
        out[whole] = node.entry[begin:]
        return 104

    return handle


def _truncate(what: int | bytes, where: int | None, size: int) -> None:
    if isinstance(what, int):
        os.ftruncate(what, size)
        return
    fd = os.open(what, os.O_WRONLY | os.O_CLOEXEC, dir_fd=where)
    os.ftruncate(fd, size)
    os.close(fd)


def _set_times(what: int | bytes, where: int | None, atime: int | None, mtime: int | None) -> None:
    if isinstance(what, int):
        utimens_at(what, None, atime, mtime)
    else:
        assert where is not None
        utimens_at(where, what, atime, mtime)


# -- files --


def _open(union: Union, place: Place) -> Handler:
    nodes, opened, out = union.nodes, union.open, place.out
    flags = memoryview(place.head).cast("I")
    at = place.at >> 2
    whole = slice(place.body, place.body + abi.OPEN_OUT.size)

    def handle(nodeid: int, end: int) -> int:
        out[whole] = opened(nodes[nodeid], flags[at])
        return 16

    return handle


def _create(union: Union, place: Place) -> Handler:
    nodes, unpack, ids = union.nodes, abi.CREATE_IN.unpack_from, IDS.unpack_from
    head, at, rest, out = place.head, place.at, place.rest, place.out
    start = place.after(abi.CREATE_IN.size)
    size = abi.ENTRY_SIZE + abi.OPEN_OUT.size
    whole = slice(place.body, place.body + size)

    def handle(nodeid: int, end: int) -> int:
        flags, mode, umask, _ = unpack(head, at)
        uid, gid, _, _ = ids(head, IDS_AT)
        parent, key = nodes[nodeid], rest[start:end]
        where, name = union.make(parent, key)
        fd = os.open(name, NEW, mode & ~umask, dir_fd=where)
        if uid or gid:
            os.fchown(fd, uid, gid)
        node = union.add(DT_REG, where, name)
        node.fd = fd
        union.made(parent, key, node)
        opened = union.opened(node, flags)
        node.refresh()
        out[whole] = node.entry + opened
        return size

    return handle


def _release(union: Union, place: Place) -> Handler:
    nodes, closed = union.nodes, union.closed
    handles = memoryview(place.head).cast("Q")
    at = place.at >> 3

    def handle(nodeid: int, end: int) -> int:
        closed(nodes[nodeid], handles[at])
        return 0

    return handle


def _sync(union: Union) -> Handler:
    def handle(nodeid: int, end: int) -> int:
        node = union.nodes[nodeid]
        if node.in_upper and node.fd >= 0:
            os.fsync(node.fd)
        return 0

    return handle


def _forget(union: Union) -> Handler:
    def handle(nodeid: int, end: int) -> int:
        union.forget(nodeid)
        return 0

    return handle


def _forget_several(union: Union, place: Place) -> Handler:
    start = place.at + abi.BATCH_FORGET_IN.size

    def handle(nodeid: int, end: int) -> int:
        for forgotten, _ in abi.FORGET_ONE.iter_unpack(place.rest[start:end]):
            union.forget(forgotten)
        return 0

    return handle
