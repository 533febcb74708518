"""The least union in Python: names, inodes and changes on a real upper and real lowers.

A directory is read when it is first needed, an inode is looked at when it is first asked for,
and both are remembered, as nobody else changes the layers.  A change is made in the upper at
once, by the system calls that overlayfs's form wants and no others.

Left out is what is not needed while one program at a time changes a file: what the kernel has
checked is not checked again, there are no locks but for the reading of a directory and for
copies, no redirects (a directory of a lower is not renamed), no index of hard links, no extended
attributes but overlayfs's own, and nothing to be done after a crash.  Inodes are not freed.

A file without a name is freed when the kernel forgets it, in a thread: a disk may have to
discard its blocks.

Source: Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import queue
import stat
import tempfile
import threading
from itertools import count
from typing import NoReturn

from benchmarks.floor_python.ahead import Ahead
from benchmarks.floor_python.copies import NEW, ORIGIN, READ, origin_of, publish
from benchmarks.floor_python.inode import IS_PASSED, MAY_BE_MAPPED, Node
from benchmarks.floor_python.listings import (
    DT_DIR,
    DT_REG,
    LOOK,
    OPENED,
    PASSED,
    ROOT,
    Listings,
    drop_name,
)
from unionfs.syscalls import xattr
from unionfs.syscalls.getdents import entries
from unionfs.syscalls.renameat2 import RENAME_EXCHANGE, RENAME_WHITEOUT, renameat2
from unionfs.wire import abi

_OPAQUE = "trusted.overlay.opaque"
SHARED = b"whiteout"  # in the staging directory: all whiteouts are links of it
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
KEPT = 32  # fds of files without a name that may stay
_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_DT_CHR = 2


_pack_opened = abi.OPEN_OUT.pack


class Union(Listings[Node]):
    """All inodes that were found, and how they and their names change."""

    def __init__(self, layers: list[str], upper: str, work: str) -> None:
        """Make the union of `upper` and `layers`, the topmost first; it stages in `work`.

        The process has umask 0, as the modes in requests are whole.
        """
        super().__init__()
        self.work = os.open(tempfile.mkdtemp(dir=work), _DIRECTORY)
        os.mknod(SHARED, stat.S_IFCHR, 0, dir_fd=self.work)
        self.ahead = Ahead(self.work)
        self._numbers, self._staged = count(ROOT), count()
        self._lock = threading.Lock()
        self._unneeded: list[int] = []  # fds
        self._freed: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        self._removing, self._closing = threading.Lock(), threading.Lock()
        self._freeing: threading.Thread | None = None
        self.root = self.add(DT_DIR, os.open(upper, _DIRECTORY), b".")
        self.root.in_upper = True
        self.root.parent = self.root
        self.root.lowers = [os.open(layer, _DIRECTORY) for layer in layers]

    def add(self, kind: int, at: int, name: bytes) -> Node:
        """Make the inode of what is `name` in the real directory `at`."""
        number = next(self._numbers)
        node = self.nodes[number] = Node(number, kind, at, name)
        return node

    # -- reading directories --

    def names(self, directory: Node) -> dict[bytes, Node]:
        if directory.unread:
            with self._lock:
                if directory.unread:
                    self._read(directory)
        return directory.names

    def _read(self, directory: Node) -> None:
        below: dict[bytes, Node] = {}
        closed: set[bytes] = set()  # nothing beneath shows
        lowers = directory.lowers
        if directory.in_upper and lowers and _is_opaque(self.upper_of(directory)):
            directory.lowers = lowers = []
        for at in lowers:
            fd = os.open(directory.name, _DIRECTORY, dir_fd=at)
            for name, _, kind in entries(fd):
                self._add_below(directory, below, closed, (name, kind, fd))
            if directory.fd < 0:
                directory.fd = fd
            if at is not lowers[-1] and _is_opaque(fd):
                break
        directory.below, directory.whiteouts = below, set()
        directory.names = names = below.copy()
        if directory.in_upper:
            upper = self.upper_of(directory)
            for name, _, kind in entries(upper):
                self._add_above(directory, names, (name, kind, upper))
        directory.unread = False

    def _add_below(
        self,
        directory: Node,
        below: dict[bytes, Node],
        closed: set[bytes],
        found: tuple[bytes, int, int],
    ) -> None:
        name, kind, fd = found
        key = name + b"\0"
        if key in closed:
            return
        if kind != DT_DIR:
            closed.add(key)
            if key in below or (kind == _DT_CHR and _is_whiteout(fd, name)):
                return
        node = below.get(key)
        if node is None:
            node = below[key] = self.add(kind, fd, name)
            node.parent = directory
        if kind == DT_DIR:
            node.lowers.append(fd)

    def _add_above(
        self, directory: Node, names: dict[bytes, Node], found: tuple[bytes, int, int]
    ) -> None:
        name, kind, upper = found
        key = name + b"\0"
        if kind == _DT_CHR and _is_whiteout(upper, name):
            names.pop(key, None)
            directory.whiteouts.add(key)
            return
        node = names.get(key)
        if node is None or not node.is_dir or kind != DT_DIR:
            node = names[key] = self.add(kind, upper, name)
            node.parent = directory
        node.at, node.in_upper = upper, True

    # -- the upper --

    def upper_of(self, directory: Node) -> int:
        """Return an fd of a directory's upper part, which is made if there is none."""
        if directory.upper < 0:
            if not directory.in_upper:
                self._copy_up_directory(directory)
            directory.upper = os.open(directory.name, _DIRECTORY, dir_fd=directory.at)
            directory.fd = directory.upper
        return directory.upper

    def _copy_up_directory(self, directory: Node) -> None:
        st = os.stat(directory.name, dir_fd=directory.at, follow_symlinks=False)
        staged = self._new_name()
        os.mkdir(staged, dir_fd=self.work)
        made = os.open(staged, _DIRECTORY, dir_fd=self.work)
        os.setxattr(made, ORIGIN, origin_of(directory.at, directory.name))
        if (st.st_uid, st.st_gid) != (0, 0):
            os.fchown(made, st.st_uid, st.st_gid)
        os.fchmod(made, st.st_mode & 0o7777)
        os.utime(made, ns=(st.st_atime_ns, st.st_mtime_ns))
        os.close(made)
        self.publish(directory, staged)

    def _new_name(self) -> bytes:
        return b"%x" % next(self._staged)

    def stage(self, node: Node, *, keeps: bool = True) -> bytes:
        """Stage the copy of a lower file, with its data on disk, and return its name there.

        It is empty if not `keeps`.  A regular file is open as `node.fd` then.
        """
        if node.kind != DT_REG:
            return self._stage_special(node)
        if keeps:
            with self._lock:
                name, fd = self.ahead.take(node)
        else:
            st = os.stat(node.name, dir_fd=node.at)
            name = self._new_name()
            fd = os.open(name, NEW, st.st_mode & 0o7777, dir_fd=self.work)
            os.setxattr(fd, ORIGIN, origin_of(node.at, node.name))
            os.fchown(fd, st.st_uid, st.st_gid)
        if node.fd >= 0:  # of the lower
            os.close(node.fd)
        node.fd = fd
        return name

    def _stage_special(self, node: Node) -> bytes:
        name, work = self._new_name(), self.work
        st = os.stat(node.name, dir_fd=node.at, follow_symlinks=False)
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(node.name, dir_fd=node.at), name, dir_fd=work)
        else:
            os.mknod(name, st.st_mode, st.st_rdev, dir_fd=work)
        os.chown(name, st.st_uid, st.st_gid, dir_fd=work, follow_symlinks=False)
        times = (st.st_atime_ns, st.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=work, follow_symlinks=False)
        return name

    def publish(self, node: Node, staged: bytes) -> None:
        """Give a copy its name."""
        parent = node.parent
        upper = self.upper_of(parent)
        publish(self.work, staged, upper, node.name)
        node.at, node.in_upper, node.stale = upper, True, LOOK
        parent.stale = LOOK

    def copy_up(self, node: Node, *, keeps: bool = True) -> None:
        """Copy a lower file up; a regular one is open as `node.fd` then."""
        self.publish(node, self.stage(node, keeps=keeps))

    # -- open files --

    def open(self, node: Node, flags: int) -> bytes:
        """Open a file; return the reply."""
        truncates = flags & os.O_TRUNC
        if not node.in_upper:
            if not flags & os.O_ACCMODE and not truncates:
                node.cached += 1
                if not node.given:
                    node.given = True
                    self._give(node)
                return OPENED
            self.copy_up(node, keeps=not truncates)
        if node.fd < 0:
            node.fd = os.open(node.name, _WRITE, dir_fd=node.at)
        if truncates:
            os.ftruncate(node.fd, 0)
        node.stale = LOOK
        return self.opened(node, flags)

    def opened(self, node: Node, flags: int) -> bytes:
        """Return the reply to an OPEN of an upper file that is open as `node.fd`."""
        handle = MAY_BE_MAPPED if flags & os.O_ACCMODE == os.O_RDWR else 0
        node.mapped += handle == MAY_BE_MAPPED
        # An inode that is passed through is cached only when all have closed it.
        if not node.cached and (node.passed or self._register(node)):
            node.passed += 1
            return _pack_opened(handle | IS_PASSED, PASSED, node.backing)
        node.cached += 1
        return _pack_opened(handle, abi.FOPEN_NOFLUSH, 0)

    def _register(self, node: Node) -> bool:
        backing_map = bytearray(abi.BACKING_MAP.pack(node.fd, 0, 0))
        try:
            node.backing = fcntl.ioctl(self.device, abi.DEV_IOC_BACKING_OPEN, backing_map)
        except OSError:
            return False  # a kernel without it
        return True

    def _give(self, node: Node) -> None:
        if node.stale:
            node.refresh()
        fd = os.open(node.name, READ, dir_fd=node.at)
        self.give(node, fd)
        os.close(fd)

    def content(self, node: Node) -> int:
        if node.fd < 0:
            node.fd = os.open(node.name, READ, dir_fd=node.at)
        return node.fd

    def closed(self, node: Node, handle: int) -> None:
        """Note that a handle was closed."""
        if handle & MAY_BE_MAPPED:
            node.mapped -= 1
            node.stale = LOOK
        if handle & IS_PASSED:
            node.passed -= 1
            if not node.passed:
                fcntl.ioctl(
                    self.device, abi.DEV_IOC_BACKING_CLOSE, node.backing.to_bytes(4, "little")
                )
        else:
            node.cached -= 1
        self.settle(node)

    def settle(self, node: Node) -> None:
        """Close the fd of a file that nobody has open, and that has a name."""
        if node.fd >= 0 and not (node.passed or node.cached or node.gone):
            os.close(node.fd)
            node.fd = -1

    def _keep(self, node: Node) -> None:
        """Keep an upper file, which loses a name and maybe all, from being freed meanwhile."""
        if node.fd < 0 and not node.others:
            node.fd = os.open(node.name, _PATH, dir_fd=node.at)

    def forget(self, nodeid: int) -> None:
        """Free a file that has no name and no handle."""
        node = self.nodes[nodeid]
        if node.gone and node.fd >= 0 and not (node.passed or node.cached):
            self._unneeded.append(node.fd)
            node.fd = -1
            if len(self._unneeded) >= KEPT:
                self._free()

    def _free(self) -> None:
        if self._freeing is None:
            self._freeing = threading.Thread(target=self._close_all, daemon=True)
            self._freeing.start()
        self._freed.put(self._unneeded)
        self._unneeded = []

    def _close_all(self) -> NoReturn:
        while True:
            for fd in self._freed.get():
                with self._removing:  # a removal that waits comes first
                    pass
                with self._closing:
                    os.close(fd)

    def _remove(self, name: bytes, at: int) -> None:
        """Remove a directory while no file is freed: rmdir(2) would spin until that has ended.

        Source: fs/dcache.c:shrink_dcache_parent().
        """
        with self._removing, self._closing:
            os.rmdir(name, dir_fd=at)

    # -- names --

    def _found(self, parent: Node, key: bytes) -> Node:
        node = self.names(parent).get(key)
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return node

    def make(self, parent: Node, key: bytes) -> tuple[int, bytes]:
        """Return where to make `key` in a directory: an fd and a name, for `made` to go on with."""
        upper = self.upper_of(parent)
        if key in parent.whiteouts:
            return self.work, self._new_name()
        return upper, key[:-1]

    def made(self, parent: Node, key: bytes, node: Node) -> None:
        """Note that `node` was made, and give it its name if a whiteout has that now."""
        upper, name = parent.upper, key[:-1]
        if node.at == self.work:
            if node.is_dir:
                self._make_opaque(node)
                renameat2(self.work, node.name, upper, name, RENAME_EXCHANGE)
                os.unlink(node.name, dir_fd=self.work)
            else:
                os.rename(node.name, name, src_dir_fd=self.work, dst_dir_fd=upper)
            parent.whiteouts.discard(key)
            node.at, node.name = upper, name
        node.in_upper, node.parent = True, parent
        parent.names[key] = node
        parent.listing, parent.stale = [], LOOK

    def _make_opaque(self, node: Node) -> None:
        fd = os.open(node.name, _DIRECTORY, dir_fd=node.at)
        os.setxattr(fd, _OPAQUE, b"y")
        os.close(fd)

    def link(self, node: Node, parent: Node, key: bytes) -> None:
        """Make one more name of a file."""
        if not node.in_upper:
            self.copy_up(node)
            self.settle(node)
        upper, name = self.upper_of(parent), key[:-1]
        if key in parent.whiteouts:
            staged = self._new_name()
            _link(node.at, node.name, self.work, staged)
            os.rename(staged, name, src_dir_fd=self.work, dst_dir_fd=upper)
            parent.whiteouts.discard(key)
        else:
            _link(node.at, node.name, upper, name)
        node.others.append((parent, name))
        node.stale = LOOK
        parent.names[key] = node
        parent.listing, parent.stale = [], LOOK

    def unlink(self, parent: Node, key: bytes) -> None:
        """Remove the name of a file."""
        node, name = self._found(parent, key), key[:-1]
        upper = self.upper_of(parent)
        if node.in_upper:
            self._keep(node)
        if key not in parent.below:
            os.unlink(name, dir_fd=upper)
        elif node.in_upper:
            staged = self._stage_whiteout()
            os.rename(staged, name, src_dir_fd=self.work, dst_dir_fd=upper)
        else:
            self._whiteout(upper, name)
        self._lost(parent, key)
        self._left(node, parent, name)

    def rmdir(self, parent: Node, key: bytes) -> None:
        """Remove a directory."""
        node, name = self._found(parent, key), key[:-1]
        if self.names(node):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        upper = self.upper_of(parent)
        if not node.in_upper:
            self._whiteout(upper, name)
        elif key in parent.below:
            staged = self._stage_whiteout()
            renameat2(self.work, staged, upper, name, RENAME_EXCHANGE)
            for whiteout in node.whiteouts:
                os.unlink(whiteout[:-1], dir_fd=self.upper_of(node))
            self._remove(staged, self.work)
        else:
            self._remove(name, upper)
        self._lost(parent, key)
        if node.upper >= 0:
            self._unneeded.append(node.upper)
        node.fd = node.upper = -1
        node.gone, node.stale = True, LOOK

    def _lost(self, parent: Node, key: bytes) -> None:
        """Note that a name is gone, which is whited out if a lower has it."""
        del parent.names[key]
        drop_name(parent, key)
        parent.stale = LOOK
        if key in parent.below:
            parent.whiteouts.add(key)

    def _left(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that a file has one name less."""
        node.stale = LOOK
        if not node.others:
            node.gone = True
        elif (node.parent, node.name) != (parent, name):
            node.others.remove((parent, name))
        else:
            node.parent, node.name = node.others.pop()
            node.at = node.parent.upper

    def _whiteout(self, at: int, name: bytes) -> None:
        try:
            _link(self.work, SHARED, at, name)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            os.unlink(SHARED, dir_fd=self.work)
            os.mknod(SHARED, stat.S_IFCHR, 0, dir_fd=self.work)
            _link(self.work, SHARED, at, name)

    def _stage_whiteout(self) -> bytes:
        staged = self._new_name()
        self._whiteout(self.work, staged)
        return staged

    def rename(self, parent: Node, before: bytes, target: Node, after: bytes, *, new: bool) -> None:
        """Rename; `new` says that the new name must not be there."""
        node, there = self._found(parent, before), self.names(target).get(after)
        if there is node:
            return
        if there is not None and new:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if node.is_dir and node.lowers:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        if there is not None and there.is_dir:
            self.rmdir(target, after)
            there = None
        if not node.in_upper:
            self.copy_up(node)
            self.settle(node)
        if there is not None and there.in_upper:
            self._keep(there)
        self._move(node, (parent, before), (target, after))
        if there is not None:
            self._left(there, target, after[:-1])
        drop_name(target, after)
        del parent.names[before]
        drop_name(parent, before)
        target.names[after] = node
        parent.stale = target.stale = node.stale = LOOK

    def _move(self, node: Node, old: tuple[Node, bytes], new: tuple[Node, bytes]) -> None:
        """Rename in the upper."""
        (parent, before), (target, after) = old, new
        source, at = self.upper_of(parent), self.upper_of(target)
        name, renamed = before[:-1], after[:-1]
        hides, over = before in parent.below, after in target.whiteouts
        if node.is_dir and after in target.below:
            self._make_opaque(node)
        if node.is_dir and over:
            renameat2(source, name, at, renamed, RENAME_EXCHANGE)
            if not hides:
                os.unlink(name, dir_fd=source)
        elif hides:
            renameat2(source, name, at, renamed, RENAME_WHITEOUT)
        else:
            os.rename(name, renamed, src_dir_fd=source, dst_dir_fd=at)
        target.whiteouts.discard(after)
        if hides:
            parent.whiteouts.add(before)
        if node.parent is parent and node.name == name:
            node.parent, node.at, node.name = target, at, renamed
        else:
            node.others[node.others.index((parent, name))] = target, renamed


def _link(source: int, name: bytes, at: int, new: bytes) -> None:
    os.link(name, new, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False)


def _is_opaque(fd: int) -> bool:
    return xattr.get_fd(fd, _OPAQUE.encode()) == b"y"


def _is_whiteout(at: int, name: bytes) -> bool:
    return os.stat(name, dir_fd=at, follow_symlinks=False).st_rdev == 0
