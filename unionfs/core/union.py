"""`UnionFs`: the implementation of `vfs.DirectFilesystem` that the transports call.

Decided here and only here: which attributes of the real inode a union inode shows.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from unionfs.core import deletion, dirops, extents, xattrs
from unionfs.core.config import Atime
from unionfs.core.file import (
    SUID_SGID,
    Handle,
    OpenFiles,
    current_fd,
    drop_suid,
    found_content,
    has_suid,
    is_guarded,
    only_appends,
    open_fd,
    open_file,
    read_into,
    real_flags,
    slow_open,
    stat_handle,
)
from unionfs.core.fileattr import fileattr
from unionfs.core.freeze import freeze, paths_open_for_writing
from unionfs.core.inode import NOTHING_LOST, SMALL, Dir, File, Node, in_upper, layer_of
from unionfs.core.introspect import counters
from unionfs.core.invalidate import reread
from unionfs.core.lookup import is_absent, lookup
from unionfs.core.owner_rights import may_be_widened, settled
from unionfs.core.readdir import list_dir, list_looked_up
from unionfs.core.real_file import (
    AtRest,
    renew_file,
    stat_node,
    statx_node,
    with_ctime,
    with_kept_ctime,
)
from unionfs.core.rename import rename
from unionfs.core.restore import restore
from unionfs.core.setattr import as_meant, setattr_node, slow_setattr
from unionfs.core.setup import close_state, warn_of_live_uppers
from unionfs.core.shelter import leave_shelter
from unionfs.core.state import State
from unionfs.credentials import Credentials
from unionfs.errors import fs_error
from unionfs.syscalls.lowered import keeping_suid
from unionfs.syscalls.statfs import ECRYPTFS, OVERLAYFS
from unionfs.syscalls.statx import put_attributes
from unionfs.syscalls.syncfs import syncfs
from unionfs.types import (
    Attr,
    Backing,
    Buffer,
    DirEntry,
    Fh,
    Frozen,
    Listed,
    LookedUp,
    NodeId,
    Renewed,
    Restored,
    SetAttr,
    StIno,
)
from unionfs.vfs import TOUCH

_as_tuple = tuple.__new__
DOTS = (b".", b"..")


class UnionFs:
    """One open union; see `vfs.DirectFilesystem` for what each method promises."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.gate = state.gate
        self._table = state.table
        self._nodes = state.table.nodes
        self._plain_owners = state.owners.plain
        self._widens = not state.owners.privileged
        self._files = OpenFiles(state)
        self._by_fh = self._files.by_fh
        self._dirs: dict[Fh, Dir] = {}
        state.fds.relief = self._files.close_idle
        self._closed = False
        self._freezing = threading.Lock()

    def may_hang(self) -> bool:
        return False

    def counts_reads(self) -> bool:
        return self._state.config.atime is Atime.STRICTATIME

    # -- names and inodes --

    def lookup(self, parent: NodeId, name: bytes) -> Attr | None:
        d = self._table.directory(parent)
        if name in DOTS:
            node: Node = d if name == b"." else d.parent
            return self._hold(node, stat_node(self._state, node))
        if is_absent(self._state, d, name) and len(name) < 256:
            return None
        found = lookup(self._state, d, name)
        if found is None:
            return None
        try:
            return self._attr(*found)
        except OSError:
            self._table.forget(found[0].nodeid, 1)
            raise

    def forget(self, nodeid: NodeId, nlookup: int) -> None:
        self._table.forget(nodeid, nlookup)

    def getattr(self, nodeid: NodeId, fh: Fh | None = None) -> Attr:
        node = self._nodes.get(nodeid) or self._table.get(nodeid)
        if fh is not None and (handle := self._by_fh.get(fh)) is not None:
            return self._attr(node, stat_handle(self._state, handle))
        return self._attr(node, stat_node(self._state, node))

    def setattr(
        self, nodeid: NodeId, change: SetAttr, fh: Fh | None, writer: Credentials | None = None
    ) -> Attr:
        node = self._nodes.get(nodeid) or self._table.get(nodeid)
        handle = self._by_fh.get(fh) if fh is not None else None
        if writer is not None and change.is_chown():
            fd = open_fd(node) if type(node) is File else None
            st = stat_node(self._state, node) if fd is None else os.stat(fd)
            if st.st_mode & SUID_SGID:  # most files have neither
                change = as_meant(node, self._attr(node, st), change, writer, self._files)
        return self._attr(node, setattr_node(self._state, node, change, handle, writer))

    def slow_setattr(self, nodeid: NodeId, change: SetAttr) -> bool:
        node = self._nodes.get(nodeid)
        if type(node) is not File or (in_upper(node) and change.size is None):
            return False
        return slow_setattr(self._state, node, change)

    def slow_rename(self, parent: NodeId, name: bytes) -> bool:
        d = self._nodes.get(parent)
        node = d.kids.get(name) if type(d) is Dir else None
        return type(node) is File and not in_upper(node) and slow_setattr(self._state, node, TOUCH)

    def known(self, parent: NodeId, name: bytes) -> NodeId | None:
        d = self._nodes.get(parent)
        node = d.kids.get(name) if type(d) is Dir else None
        return None if node is None else node.nodeid

    def readlink(self, nodeid: NodeId) -> bytes:
        with AtRest(self._table.file(nodeid)) as (fd, name):
            return os.readlink(name or b"", dir_fd=fd)

    def access(self, nodeid: NodeId, mask: int, uid: int, gid: int) -> None:
        # The kernel checks permissions itself, but it does not know that the union is
        # read-only.
        node = self._table.get(nodeid)
        if mask & os.W_OK and (isinstance(node, Dir) or node_is_regular(node)):
            self._state.require_upper()

    def statfs(self) -> os.statvfs_result:
        state = self._state
        return os.statvfs(state.stack()[0].root.fd())

    # -- changing directories --

    def mknod(
        self, parent: NodeId, name: bytes, mode: int, rdev: int, umask: int, uid: int, gid: int
    ) -> Attr:
        new = dirops.NewInode(mode, umask, uid, gid)
        return self._make(parent, name, new, dirops.make_node(rdev))

    def mkdir(self, parent: NodeId, name: bytes, mode: int, umask: int, uid: int, gid: int) -> Attr:
        new = dirops.NewInode(mode | stat.S_IFDIR, umask, uid, gid)
        return self._make(parent, name, new, dirops.make_directory)

    def symlink(self, parent: NodeId, name: bytes, target: bytes, uid: int, gid: int) -> Attr:
        new = dirops.NewInode(stat.S_IFLNK | 0o777, 0, uid, gid)
        return self._make(parent, name, new, dirops.make_symlink(target))

    def link(self, nodeid: NodeId, new_parent: NodeId, new_name: bytes) -> Attr:
        node, d = self._table.file(nodeid), self._table.directory(new_parent)
        return self._hold(*dirops.link(self._state, node, d, new_name))

    def unlink(self, parent: NodeId, name: bytes) -> None:
        deletion.unlink(self._state, self._table.directory(parent), name)

    def rmdir(self, parent: NodeId, name: bytes) -> None:
        deletion.rmdir(self._state, self._table.directory(parent), name)

    def rename(
        self, parent: NodeId, name: bytes, new_parent: NodeId, new_name: bytes, flags: int
    ) -> None:
        old = self._table.directory(parent)
        new = old if new_parent == parent else self._table.directory(new_parent)
        rename(self._state, old, name, new, new_name, flags)

    # -- files --

    def open(self, nodeid: NodeId, flags: int) -> Fh:
        node = self._table.file(nodeid)
        if flags & os.O_TRUNC and not flags & os.O_ACCMODE and self._files.is_running(node):
            # The kernel finds that out only after the open has truncated the file.
            raise fs_error(errno.ETXTBSY)
        return self._files.add(open_file(self._state, node, flags))

    def slow_open(self, nodeid: NodeId, flags: int) -> bool:
        writes = flags & os.O_ACCMODE
        return bool(writes) and slow_open(self._state, self._table.file(nodeid), flags)

    def create(
        self, parent: NodeId, name: bytes, mode: int, flags: int, umask: int, uid: int, gid: int
    ) -> tuple[Attr, Fh]:
        d = self._table.directory(parent)
        state, mode = self._state, stat.S_IMODE(mode)
        if not state.owners.gives_to(uid, gid):
            made = dirops.create_plain(state, d, name, mode, flags, umask)
            if made is not None:
                handle, st = made
                return self._attr(handle.node, st), self._files.add_counted(handle)
        new = dirops.NewInode(mode | stat.S_IFREG, umask, uid, gid)
        node, st, fd = dirops.create(
            state, d, name, new, dirops.make_file(state, real_flags(flags))
        )
        handle = Handle(node, fd, flags)
        handle.plain = not st.st_mode & SUID_SGID
        return self._attr(node, st), self._files.add(handle)

    def read(self, fh: Fh, offset: int, size: int) -> bytes:
        fd = current_fd(self._state, self._files.require(fh))
        with self.gate.outside():
            return os.pread(fd, size, offset)

    def read_nowait(self, fh: Fh, offset: int, size: int) -> Buffer | None:
        fd = current_fd(self._state, self._files.require(fh))
        buffer = bytearray(size)
        try:
            done = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise
        if done < size and offset + done < os.fstat(fd).st_size:
            return None
        return buffer if done == size else memoryview(buffer)[:done]

    def write(self, fh: Fh, offset: int, data: Buffer) -> int:
        handle = self._files.require(fh)
        if not handle.writable:
            raise fs_error(errno.EBADF)
        fd = current_fd(self._state, handle)
        total = len(data)
        with keeping_suid(fd):
            done = os.pwrite(fd, data, offset)
            while done < total:
                done += os.pwrite(fd, memoryview(data)[done:], offset + done)
        return total

    def flush(self, fh: Fh) -> None:
        self._files.require(fh)

    def fsync(self, fh: Fh, datasync: bool) -> None:
        handle = self._files.require(fh)
        if self._state.config.volatile or handle.node.real.layer.settled:
            return
        fd = current_fd(self._state, handle)
        with self.gate.outside():
            if datasync:
                os.fdatasync(fd)
            else:
                os.fsync(fd)

    def release(self, fh: Fh) -> None:
        handle = self._files.remove(fh)
        if handle is not None:
            self._table.note_release(handle.node, handle)
            if handle.node.unlinked:
                leave_shelter(self._state, handle.node)

    def readinto(self, fh: Fh, offset: int, view: memoryview, wait: bool) -> int | None:
        fd = current_fd(self._state, self._files.require(fh))
        return read_into(self._state, fd, view, offset, wait=wait)

    def fileno(self, fh: Fh) -> int:
        """Return the fd of the real file behind `fh`, which is valid until `release`."""
        return current_fd(self._state, self._files.require(fh))

    def backing(self, fh: Fh) -> Backing | None:
        handle, state = self._by_fh.get(fh) or self._files.require(fh), self._state
        node, fd = handle.node, handle.fd
        upper = node.real.layer.is_upper or node.orphan is not None
        if not upper and node.is_small():
            return None
        if fd is None or handle.changed != node.changed:
            fd = current_fd(state, handle)
        guarded = upper and not handle.plain and is_guarded(fd)
        pristine = node.found_size >= 0 and not upper
        fixed = state.writable is None
        return _as_tuple(Backing, (fd, handle.changed, upper, pristine, fixed, guarded))

    def open_small(
        self, nodeid: NodeId, flags: int, wait: bool
    ) -> tuple[Fh, int, bytearray | None] | None:
        node, state = self._nodes.get(nodeid), self._state
        if type(node) is not File:
            return None
        version, size = node.changed, node.found_size
        if not 0 <= size < SMALL or not state.reads_all:
            return None
        fh = self._files.add(Handle(node, None, flags))
        try:
            data = found_content(state, node, size, None, wait=wait) if size else None
        except BlockingIOError:
            data = None
        return fh, version, data

    def first_content(self, fh: Fh, limit: int, wait: bool) -> bytearray | None:
        handle = self._files.require(fh)
        size = handle.node.found_size
        if not 0 < size <= limit:
            return None
        return found_content(self._state, handle.node, size, handle.fd, wait=wait)

    def is_as_found(self, fh: Fh) -> bool:
        return self._files.require(fh).node.found_size >= 0

    def lasting_version(self, fh: Fh) -> int | None:
        handle = self._files.require(fh)
        node = handle.node
        if handle.writable or node.real.layer.is_upper or node.orphan is not None:
            return None
        return handle.changed if self._state.layers_immutable else None

    def version(self, fh: Fh) -> int:
        return self._files.require(fh).changed

    def is_current(self, fh: Fh, nodeid: NodeId, version: int) -> bool:
        node = (self._by_fh.get(fh) or self._files.require(fh)).node
        return node is self._nodes.get(nodeid) and node.changed == version

    def is_of(self, fh: Fh, nodeid: NodeId) -> bool:
        return self._files.require(fh).node is self._nodes.get(nodeid)

    def will_stay(self, nodeid: NodeId, version: int) -> bool:
        node = self._table.file(nodeid)
        return node.changed == version and (in_upper(node) or node.orphan is not None)

    def renew(self, nodeid: NodeId) -> Renewed | None:
        return renew_file(self._state, self._table.file(nodeid))

    def drop_suid(self, fh: Fh, writer: Credentials) -> bool:
        return drop_suid(self._state, current_fd(self._state, self._files.require(fh)), writer)

    def only_appends(self, fh: Fh) -> bool:
        return only_appends(current_fd(self._state, self._files.require(fh)))

    def has_suid(self, fh: Fh) -> bool:
        return has_suid(current_fd(self._state, self._files.require(fh)))

    def tmpfile(
        self, parent: NodeId, mode: int, flags: int, umask: int, uid: int, gid: int
    ) -> tuple[Attr, Fh]:
        d = self._table.directory(parent)
        new = dirops.NewInode(mode, umask, uid, gid)
        node, st, fd = dirops.make_nameless(self._state, d, new, real_flags(flags))
        return self._attr(node, st), self._files.add(Handle(node, fd, flags))

    def fallocate(self, fh: Fh, mode: int, offset: int, length: int) -> None:
        extents.fallocate(self._state, self._files.require(fh), mode, offset, length)

    def lseek(self, fh: Fh, offset: int, whence: int) -> int:
        return extents.lseek(self._state, self._files.require(fh), offset, whence)

    def copy_range(
        self, fh: Fh, offset: int, target_fh: Fh, target_offset: int, length: int
    ) -> int:
        source, target = self._files.require(fh), self._files.require(target_fh)
        return extents.copy_range(self._state, source, offset, target, target_offset, length)

    def statx(self, nodeid: NodeId, mask: int) -> tuple[Attr, bytearray]:
        node = self._table.get(nodeid)
        attr = self._attr(node, stat_node(self._state, node))
        shown = statx_node(self._state, node, mask)
        put_attributes(shown, attr)
        return attr, shown

    def fileattr(self, nodeid: NodeId, command: int, data: bytes) -> bytes:
        return fileattr(self._state, self._table.get(nodeid), command, data)

    # -- reading directories --

    def watch_freed(self, freed: Callable[[NodeId], object]) -> None:
        self._table.freed = freed

    def ask_of_locks(self, is_locked: Callable[[StIno], bool]) -> None:
        self._state.is_locked = is_locked

    def note_passthrough(self) -> None:
        self._state.passes_through = True

    def stack_depth(self) -> int:
        state = self._state
        layers = (*state.stack(), *state.data)
        kinds = {layer.fs_type for layer in layers}
        return 2 if kinds & {OVERLAYFS, ECRYPTFS} else 1

    def listdir(self, nodeid: NodeId, offset: int) -> Iterator[DirEntry]:
        return list_dir(self._state, self._table.directory(nodeid), offset)

    def list_looked_up(
        self, nodeid: NodeId, offset: int, what: LookedUp, tell: Callable[[NodeId], object]
    ) -> Iterator[Listed]:
        d = self._table.directory(nodeid)
        return list_looked_up(self._state, d, offset, what, tell, self._attr)

    def syncfs(self) -> None:
        writable = self._state.writable
        if writable is not None and not self._state.config.volatile:
            syncfs(writable.upper.root.fd())

    def syncdir(self, nodeid: NodeId) -> None:
        d = self._table.directory(nodeid)
        top = d.top()
        if not self._state.config.volatile and not top.layer.settled and not d.dead:
            fd = top.fd()
            with self.gate.outside():
                os.fsync(fd)

    def opendir(self, nodeid: NodeId) -> Fh:
        fh = self._files.new_fh()
        self._dirs[fh] = self._table.directory(nodeid)
        return fh

    def readdir(self, fh: Fh, offset: int) -> Iterator[DirEntry]:
        return list_dir(self._state, self._dir(fh), offset)

    def fsyncdir(self, fh: Fh) -> None:
        self.syncdir(self._dir(fh).nodeid)

    def releasedir(self, fh: Fh) -> None:
        self._dirs.pop(fh, None)

    # -- extended attributes --

    def getxattr(self, nodeid: NodeId, name: bytes) -> bytes:
        return xattrs.getxattr(self._state, self._table.get(nodeid), name)

    def lacks_xattr(self, nodeid: NodeId, name: bytes) -> bool:
        return xattrs.lacks(self._state, self._table.get(nodeid), name)

    def listxattr(self, nodeid: NodeId) -> list[bytes]:
        return xattrs.listxattr(self._state, self._table.get(nodeid))

    def setxattr(self, nodeid: NodeId, name: bytes, value: bytes, flags: int) -> None:
        xattrs.setxattr(self._state, self._table.get(nodeid), name, value, flags)

    def removexattr(self, nodeid: NodeId, name: bytes) -> None:
        xattrs.removexattr(self._state, self._table.get(nodeid), name)

    # -- the mount as a whole --

    def count_also(self, others: Callable[[], dict[str, int]]) -> None:
        self._state.transport_counters = others

    def warn_of_live_uppers(self) -> None:
        """Log a warning if a lower is the upper of another mount, and may not change here.

        It takes 10 ms, in which the kernel waits for all CPUs: not for one who waits for a mount.
        """
        warn_of_live_uppers(self._state)

    def counters(self) -> dict[str, int]:
        self._state.counts["handles"] = len(self._files.by_fh) + len(self._dirs)
        return counters(self._state)

    def writing(self) -> list[bytes]:
        return paths_open_for_writing(self._state, self._files.all())

    def freeze(self, upper_to: bytes, *, ahead: bool = False) -> Frozen:
        with self._freezing:
            return freeze(self._state, self._files.all, upper_to, ahead=ahead)

    def restore(
        self, path: bytes, *, dry_run: bool = False, along: Sequence[bytes] = ()
    ) -> Restored:
        return restore(self._state, path, dry_run=dry_run, along=along)

    def reread(self, path: bytes | None) -> list[tuple[NodeId, NodeId, bytes]]:
        return reread(self._state, path)

    def close(self, *, write_back: bool = True) -> None:
        if self._closed:
            return
        self._closed = True
        self._files.by_fh.clear()
        self._dirs.clear()
        self._state.fds.relief = bool  # so that the state does not refer to its own open files
        close_state(self._state, write_back=write_back)

    # -- inside --

    def _make(self, parent: NodeId, name: bytes, new: dirops.NewInode, maker: dirops.Maker) -> Attr:
        d = self._table.directory(parent)
        found, _ = dirops.make(self._state, d, name, new, maker)
        return self._attr_of_held(*found)

    def _hold(self, node: Node, st: os.stat_result) -> Attr:
        """Count one more reference of the kernel, which already has one."""
        if not self._table.hold(node):
            raise fs_error(errno.ESTALE)
        return self._attr_of_held(node, st)

    def _attr_of_held(self, node: Node, st: os.stat_result) -> Attr:
        """Return the attributes of `node`; if that fails, the kernel's reference is dropped."""
        try:
            return self._attr(node, st)
        except OSError:
            self._table.forget(node.nodeid, 1)
            raise

    def _attr(self, node: Node, st: os.stat_result) -> Attr:
        if self._widens and may_be_widened(st):
            st = settled(partial(stat_node, self._state, node))
        nlink, blocks = st.st_nlink, st.st_blocks
        if type(node) is File:
            if node.nlink_delta:
                nlink += node.nlink_delta
            elif node.lost is not NOTHING_LOST:
                nlink = max(0, nlink - node.lost.links)
                st = with_ctime(st, node.lost.ctime_ns)
            if node.data is not None:
                blocks = self._data_blocks(node, blocks)
        elif type(node) is Dir:
            if node.merged:
                nlink = 1
            elif node.dead:
                nlink = 0
            if node.kept_ctime is not None:
                st = with_kept_ctime(st, node.kept_ctime)
        uid, gid = st.st_uid, st.st_gid
        if not self._plain_owners:
            uid, gid = self._state.owners.shown(layer_of(node), st)
        # Not `Attr(...)`: that calls a function of Python for each file.
        return _as_tuple(Attr, (node.nodeid, node.st_ino, nlink, uid, gid, blocks, st))

    def close_idle(self) -> bool:
        """Close the fds of open files that can get another one; tell whether there were any."""
        return self._files.close_idle()

    def _data_blocks(self, node: File, blocks: int) -> int:
        data = node.data
        if data is None:
            return blocks
        if data.blocks >= 0:
            return data.blocks
        try:
            return os.stat(data.name, dir_fd=data.real.fd(), follow_symlinks=False).st_blocks
        except OSError:
            return blocks  # open(2) will report the error

    def _dir(self, fh: Fh) -> Dir:
        d = self._dirs.get(fh)
        if d is None:
            raise fs_error(errno.EBADF)
        return d


def node_is_regular(node: Node) -> bool:
    """Tell whether `node` is a regular file."""
    return isinstance(node, File) and node.kind == stat.S_IFREG
