"""The union core driven in process, through the vfs, in the kernel's stead.

`CoreDriver` does what the kernel's VFS does between a system call and FUSE: it
looks each component of a path up, refuses what never reaches a filesystem
(rename of a directory beneath itself, unlink of a directory, a write to a
read-only handle), and counts references.  `finish` gives them all back and
checks that the core then keeps nothing but the root.

Source: Linux fs/namei.c, fs/xattr.c; the caller is always root.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from tests.helpers.calls import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.helpers.drivers import Entry, Stat
from unionfs.types import ROOT_NODEID, Attr, Fh, NodeId, SetAttr
from unionfs.vfs import Filesystem

_LOCAL_FLAGS = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""What the kernel keeps to itself of the flags of open(2)."""


class Opened(NamedTuple):
    """What the kernel remembers of an open file."""

    nodeid: NodeId
    fh: Fh
    flags: int

    @property
    def readable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


def refuse(code: int, path: bytes = b"") -> NoReturn:
    raise OSError(code, os.strerror(code), path)


def _kind(attr: Attr) -> int:
    return stat.S_IFMT(attr.st.st_mode)


def _is_dir(attr: Attr) -> bool:
    return stat.S_ISDIR(attr.st.st_mode)


class CoreDriver:
    """A `Driver` over a `Filesystem` without a mount."""

    def __init__(self, fs: Filesystem, umask: int = 0o022) -> None:
        self.fs = fs
        self.umask = umask
        self.lookups: Counter[NodeId] = Counter()
        self.handles: dict[int, Opened] = {}
        self._next_handle = 1

    # -- references --

    def forget_all(self) -> None:
        """Drop every cached name, as under memory pressure; open files keep theirs."""
        kept = Counter(opened.nodeid for opened in self.handles.values())
        for nodeid, count in list(self.lookups.items()):
            keep = 1 if kept[nodeid] else 0
            if count > keep:
                self.fs.forget(nodeid, count - keep)
            self.lookups[nodeid] = keep
        self.lookups = +self.lookups

    def finish(self, when: str = "") -> None:
        """Give back all there is; fails where the core keeps more than the root."""
        for handle in list(self.handles):
            self.close(handle)
        self.forget_all()
        counters = self.fs.counters()
        assert counters["inodes"] == 1, f"inodes kept that nobody refers to: {counters} {when}"
        assert counters["handles"] == 0, f"handles kept: {counters} {when}"

    # -- paths --

    def _count(self, attr: Attr) -> Attr:
        self.lookups[attr.nodeid] += 1
        return attr

    def _child(self, parent: NodeId, name: bytes) -> Attr | None:
        attr = self.fs.lookup(parent, name)
        return None if attr is None else self._count(attr)

    def _find(self, path: bytes) -> Attr | None:
        if not path:
            return self.fs.getattr(ROOT_NODEID)
        parent, name = self._parent(path)
        return self._child(parent, name)

    def get(self, path: bytes) -> Attr:
        attr = self._find(path)
        if attr is None:
            refuse(errno.ENOENT, path)
        return attr

    def _parent(self, path: bytes) -> tuple[NodeId, bytes]:
        """Return the nodeid of the directory of `path`, and its last component."""
        *folders, name = path.split(b"/")
        at = ROOT_NODEID
        for folder in folders:
            attr = self._child(at, folder)
            if attr is None:
                refuse(errno.ENOENT, path)
            if not _is_dir(attr):
                refuse(errno.ENOTDIR, path)
            at = attr.nodeid
        return at, name

    def _new(self, path: bytes) -> tuple[NodeId, bytes]:
        """As `_parent`, for a name that must not be there yet."""
        parent, name = self._parent(path)
        if self._child(parent, name) is not None:
            refuse(errno.EEXIST, path)
        return parent, name

    # -- looking --

    @staticmethod
    def _stat(attr: Attr) -> Stat:
        st = attr.st
        return Stat(
            st.st_mode,
            attr.st_uid,
            attr.st_gid,
            st.st_size,
            attr.st_nlink,
            st.st_rdev,
            attr.st_ino,
            st.st_mtime_ns,
        )

    def lstat(self, path: bytes) -> Stat:
        return self._stat(self.get(path))

    def listdir(self, path: bytes) -> list[Entry]:
        fh = self.fs.opendir(self.get(path).nodeid)
        try:
            found = list(self.fs.readdir(fh, 0))
        finally:
            self.fs.releasedir(fh)
        assert [entry.name for entry in found[:2]] == [b".", b".."]
        return [Entry(entry.name, entry.d_type << 12, entry.st_ino) for entry in found[2:]]

    def readlink(self, path: bytes) -> bytes:
        return self.fs.readlink(self.get(path).nodeid)

    def read(self, path: bytes) -> bytes:
        with self._opened(path, os.O_RDONLY) as handle:
            pieces = []
            at = 0
            while piece := self.pread(handle, 1 << 20, at):
                pieces.append(piece)
                at += len(piece)
            return b"".join(pieces)

    def listxattr(self, path: bytes) -> list[str]:
        return sorted(os.fsdecode(name) for name in self.fs.listxattr(self.get(path).nodeid))

    def getxattr(self, path: bytes, name: str) -> bytes:
        return self.fs.getxattr(self.get(path).nodeid, os.fsencode(name))

    # -- making and removing names --

    def create(self, path: bytes, mode: int) -> None:
        self.close(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))

    def mkdir(self, path: bytes, mode: int) -> None:
        parent, name = self._new(path)
        self._count(self.fs.mkdir(parent, name, mode & ~self.umask, self.umask, 0, 0))

    def mknod(self, path: bytes, mode: int, rdev: int) -> None:
        parent, name = self._new(path)
        self._count(self.fs.mknod(parent, name, mode & ~self.umask, rdev, self.umask, 0, 0))

    def symlink(self, target: bytes, path: bytes) -> None:
        parent, name = self._new(path)
        self._count(self.fs.symlink(parent, name, target, 0, 0))

    def link(self, old: bytes, new: bytes) -> None:
        attr = self.get(old)
        parent, name = self._new(new)
        if _is_dir(attr):
            refuse(errno.EPERM, old)
        self._count(self.fs.link(attr.nodeid, parent, name))

    def unlink(self, path: bytes) -> None:
        parent, name = self._parent(path)
        attr = self._child(parent, name)
        if attr is None:
            refuse(errno.ENOENT, path)
        if _is_dir(attr):
            refuse(errno.EISDIR, path)
        self.fs.unlink(parent, name)

    def rmdir(self, path: bytes) -> None:
        parent, name = self._parent(path)
        attr = self._child(parent, name)
        if attr is None:
            refuse(errno.ENOENT, path)
        if not _is_dir(attr):
            refuse(errno.ENOTDIR, path)
        self.fs.rmdir(parent, name)

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        swap = bool(flags & RENAME_EXCHANGE)
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or (swap and flags & RENAME_NOREPLACE):
            refuse(errno.EINVAL, old)
        old_parent, old_name = self._parent(old)
        new_parent, new_name = self._parent(new)
        source = self._child(old_parent, old_name)
        target = self._child(new_parent, new_name)
        if source is None:
            refuse(errno.ENOENT, old)
        if flags & RENAME_NOREPLACE and target is not None:
            refuse(errno.EEXIST, new)
        if swap and target is None:
            refuse(errno.ENOENT, new)
        if new.startswith(old + b"/"):
            refuse(errno.EINVAL, new)
        if old.startswith(new + b"/"):
            refuse(errno.EINVAL if swap else errno.ENOTEMPTY, new)
        if target is not None:
            if target.nodeid == source.nodeid:
                return
            if not swap and _is_dir(source) != _is_dir(target):
                refuse(errno.ENOTDIR if _is_dir(source) else errno.EISDIR, new)
        self.fs.rename(old_parent, old_name, new_parent, new_name, flags)

    # -- attributes --

    def _change(self, path: bytes, change: SetAttr) -> None:
        self.fs.setattr(self.get(path).nodeid, change, None)

    def truncate(self, path: bytes, size: int) -> None:
        attr = self.get(path)
        if _is_dir(attr):
            refuse(errno.EISDIR, path)
        self.fs.setattr(attr.nodeid, SetAttr(size=size), None)

    def chmod(self, path: bytes, mode: int) -> None:
        if stat.S_ISLNK(self.get(path).st.st_mode):
            refuse(errno.ELOOP, path)
        self._change(path, SetAttr(mode=mode))

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        attr = self.get(path)
        change = SetAttr(uid=uid, gid=gid)
        mode = stat.S_IMODE(attr.st.st_mode)
        if not _is_dir(attr):
            # notify_change(): the kernel asks for the mode that is left.
            kept = mode & ~stat.S_ISUID
            if mode & stat.S_IXGRP:
                kept &= ~stat.S_ISGID
            if kept != mode:
                change.mode = kept
        self.fs.setattr(attr.nodeid, change, None)

    def utimens(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        self._change(path, SetAttr(atime_ns=atime_ns, mtime_ns=mtime_ns))

    def _user_xattr(self, path: bytes, name: str) -> NodeId:
        attr = self.get(path)
        if name.startswith("user.") and _kind(attr) not in (stat.S_IFREG, stat.S_IFDIR):
            refuse(errno.EPERM, path)
        return attr.nodeid

    def setxattr(self, path: bytes, name: str, value: bytes, flags: int) -> None:
        self.fs.setxattr(self._user_xattr(path, name), os.fsencode(name), value, flags)

    def removexattr(self, path: bytes, name: str) -> None:
        self.fs.removexattr(self._user_xattr(path, name), os.fsencode(name))

    # -- files --

    def open(self, path: bytes, flags: int, mode: int) -> int:
        if flags & os.O_CREAT:
            parent, name = self._parent(path)
            attr = self._child(parent, name)
            if attr is None:
                real = flags & ~_LOCAL_FLAGS
                attr, fh = self.fs.create(parent, name, mode & ~self.umask, real, self.umask, 0, 0)
                return self._add(Opened(self._count(attr).nodeid, fh, flags))
            if flags & os.O_EXCL:
                refuse(errno.EEXIST, path)
        else:
            attr = self.get(path)
        if _is_dir(attr):
            refuse(errno.EISDIR, path)
        fh = self.fs.open(attr.nodeid, flags & ~_LOCAL_FLAGS)
        return self._add(Opened(attr.nodeid, fh, flags))

    def _add(self, opened: Opened) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self.handles[handle] = opened
        return handle

    @contextmanager
    def _opened(self, path: bytes, flags: int) -> Iterator[int]:
        handle = self.open(path, flags, 0)
        try:
            yield handle
        finally:
            self.close(handle)

    def write(self, path: bytes, offset: int, data: bytes) -> int:
        with self._opened(path, os.O_WRONLY) as handle:
            return self.pwrite(handle, data, offset)

    def append(self, path: bytes, data: bytes) -> int:
        with self._opened(path, os.O_WRONLY | os.O_APPEND) as handle:
            return self.pwrite(handle, data, 0)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        opened = self.handles[handle]
        if not opened.readable:
            refuse(errno.EBADF)
        quick = self.fs.read_nowait(opened.fh, offset, size)
        return bytes(quick) if quick is not None else self.fs.read(opened.fh, offset, size)

    def pwrite(self, handle: int, data: bytes, offset: int) -> int:
        opened = self.handles[handle]
        if not opened.writable:
            refuse(errno.EBADF)
        if opened.flags & os.O_APPEND:
            offset = self.fs.getattr(opened.nodeid, opened.fh).st.st_size
        return self.fs.write(opened.fh, offset, data)

    def fstat(self, handle: int) -> Stat:
        opened = self.handles[handle]
        return self._stat(self.fs.getattr(opened.nodeid, opened.fh))

    def ftruncate(self, handle: int, size: int) -> None:
        opened = self.handles[handle]
        if not opened.writable:
            refuse(errno.EINVAL)
        self.fs.setattr(opened.nodeid, SetAttr(size=size), opened.fh)

    def fsync(self, handle: int) -> None:
        self.fs.fsync(self.handles[handle].fh, False)

    def close(self, handle: int) -> None:
        opened = self.handles.pop(handle)
        self.fs.flush(opened.fh)
        self.fs.release(opened.fh)
