"""The portable transport: a `Filesystem` carried by pyfuse3 on trio.

It translates and has no policy.  Quick operations are called in the trio thread, since
handing them to a worker costs more than they do.  An operation that may block for long
runs in a worker thread, so that other requests are served; it is always waited for.  Every
exception of an operation becomes an errno, so no request ends the daemon.

pyfuse3 sends one number as nodeid and as st_ino.  In the core the two are equal
except for the root and in rare collisions.

Source: pyfuse3 3.4 `handlers.pxi`; libfuse `fuse_lowlevel.c`;
Linux `fs/fuse/readdir.c:fuse_direntplus_link()` for what a listing may leave out.

Threading: all methods run in the trio thread.  pyfuse3 has one session in a process.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Concatenate, ParamSpec, TypeVar, cast

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from unionfs.credentials import Credentials
from unionfs.errors import errno_of
from unionfs.light_logging import Logger
from unionfs.transports.deferred import Workers
from unionfs.transports.pyfuse3_answers import (
    FOREVER,
    Answers,
    Pyfuse3Notifier,
    name_only,
    statfs_of,
)
from unionfs.types import ROOT_NODEID, Attr, DirEntry, Fh, NodeId, SetAttr
from unionfs.vfs import INLINE_WRITE, TOUCH, Filesystem, Notifier
from unionfs.wire.late_replies import LateReplies

log = Logger(__name__)

# How often to see whether the gate is open again; it is closed for some milliseconds.
GATE_LOOK_S = 0.0005

MOST_THREADS = 1024  # if a layer may stop answering

MOST_DROPPERS = 8  # threads that make the kernel drop pages
PATIENCE_S = 1.0  # how long a write waits for that

SYNCHRONOUS = os.O_SYNC | os.O_DSYNC | os.O_DIRECT

ACCESS_ACL = b"system.posix_acl_access"
TRUSTED = b"trusted."
ACL_NAMES = frozenset((ACCESS_ACL, b"system.posix_acl_default"))

P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[Concatenate["Pyfuse3Ops", P], Coroutine[object, object, R]]


def answered(handler: Handler[P, R]) -> Handler[P, R]:
    """Turn every exception of `handler` into a `FUSEError`; others would end pyfuse3."""
    where = handler.__name__

    async def answer(self: Pyfuse3Ops, /, *args: P.args, **kwargs: P.kwargs) -> R:
        lane = self.lane
        lane.busy += 1
        try:
            while self.gate.closed:
                lane.busy -= 1
                await trio.sleep(GATE_LOOK_S)
                lane.busy += 1
            if self.may_hang:
                return await self.in_worker(_driven, handler(self, *args, **kwargs))
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except Exception as error:
            raise FUSEError(errno_of(error, where)) from None
        finally:
            lane.busy -= 1

    functools.update_wrapper(answer, handler)
    return answer


def _driven(handling: Coroutine[object, object, R]) -> R:
    """Run a handler in a thread that may wait for a layer; return its result."""
    try:
        handling.send(None)
    except StopIteration as end:
        return cast(R, end.value)
    handling.close()
    raise AssertionError("a handler awaited something in a worker")


async def carry(
    fs: Filesystem,
    fuse_fd: int,
    *,
    timeout: float | None,
    acl: bool,
    xattrs: bool,
    on_ready: Callable[[Notifier], None],
) -> None:
    """Serve `fs` over the mounted `fuse_fd` until the kernel ends the connection.

    `timeout` is how long the kernel may remember names and attributes, in
    seconds; None is for ever.  `on_ready` is called once, after the first request of the
    kernel.  Closes `fuse_fd`.
    """
    ops = Pyfuse3Ops(fs, timeout=timeout, acl=acl, xattrs=xattrs, on_ready=on_ready)
    # By this name libfuse accepts a descriptor that is mounted already.
    pyfuse3.init(ops, f"/dev/fd/{fuse_fd}", set())
    try:
        # A few idle readers; otherwise a task is started and ended for every burst.
        await pyfuse3.main(min_tasks=4, max_tasks=MOST_THREADS if ops.may_hang else 99)
    except ExceptionGroup as failed:
        # libfuse takes only ENODEV for the end.
        if failed.split(_is_abort)[1] is not None:
            raise
        log.warning("the connection was aborted")
    finally:
        ops.droppers.join(PATIENCE_S)
        pyfuse3.close(unmount=False)


def _is_abort(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ECONNABORTED


class Pyfuse3Ops(pyfuse3.Operations):
    """One mounted `Filesystem` as pyfuse3 calls it."""

    def __init__(
        self,
        fs: Filesystem,
        *,
        timeout: float | None,
        acl: bool,
        xattrs: bool,
        on_ready: Callable[[Notifier], None],
    ) -> None:
        super().__init__()
        self.enable_acl = acl
        self.supports_dot_lookup = False  # the kernel would look up "." of forgotten inodes
        self._fs = fs
        self.gate = fs.gate
        self.may_hang = fs.may_hang()
        # trio's default is 40 threads: 40 callers of a layer that does not answer would
        # occupy all of them.
        self._threads = trio.CapacityLimiter(MOST_THREADS) if self.may_hang else None
        self.lane = fs.gate.lane()  # the trio thread's
        self._on_ready = on_ready
        self._acl = acl
        self._xattrs = xattrs
        self._answers = Answers(FOREVER if timeout is None else timeout)
        self._entry = self._answers.entry
        self._attributes = self._answers.attributes
        self._keep_cache = timeout is None and not fs.counts_reads()
        # Handles whose writes wait for the disk, and so must run in a worker.
        self._synchronous: set[int] = set()
        # Handles that write without the kernel's cache.
        self._direct: set[int] = set()
        self.droppers = Workers(MOST_DROPPERS)
        # The inode and the opener of each handle open for writing.
        self._writers: dict[int, tuple[InodeT, Credentials]] = {}
        # The nodeid behind each open directory, and the thread that opened it; a READDIR names
        # only its handle.
        self._directories: dict[int, tuple[NodeId, int]] = {}
        self._late = LateReplies(Pyfuse3Notifier())

    def init(self) -> None:
        self._on_ready(Pyfuse3Notifier())

    async def _in_worker(self, function: Callable[..., R], *args: object) -> R:
        """Call `function(*args)` in a worker thread; wait for it even if cancelled."""
        if self.may_hang:
            return function(*args)  # this is a worker
        return await self.in_worker(function, *args)

    async def in_worker(self, function: Callable[..., R], *args: object) -> R:
        """Like `_in_worker`, from the trio thread."""

        def work() -> R:
            with self.gate.passing():
                return function(*args)

        self.lane.busy -= 1
        try:
            return await trio.to_thread.run_sync(
                work, abandon_on_cancel=False, limiter=self._threads
            )
        finally:
            self.lane.busy += 1

    # -- names and inodes --

    @answered
    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        attr = self._fs.lookup(NodeId(parent_inode), name)
        if attr is not None:
            if attr.st_nlink > 1 and not stat.S_ISDIR(attr.st.st_mode):
                attr = self._late.asked_by_link(self._fs, attr, ctx.pid)
            return self._entry(attr)
        if self._answers.absent is None:
            raise FUSEError(errno.ENOENT)
        return self._answers.absent

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        forget = self._fs.forget
        for inode, nlookup in inode_list:
            # The root is never forgotten; see `_listed` for why the kernel sends this.
            if inode != ROOT_NODEID:
                forget(NodeId(inode), nlookup)

    @answered
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        self._late.asked(NodeId(inode), ctx.pid)
        return self._attributes(self._fs.getattr(NodeId(inode)))

    @answered
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        change = SetAttr(
            mode=stat.S_IMODE(attr.st_mode) if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        fs = self._fs
        writer = Credentials(ctx.pid, ctx.gid)
        cuts = change.size is not None and not writer.keeps_suid()
        gives = change.size is None and change.is_chown() and ctx.uid
        killer = writer if cuts or gives else None
        call = functools.partial(
            fs.setattr, NodeId(inode), change, None if fh is None else Fh(fh), killer
        )
        if fs.slow_setattr(NodeId(inode), change):
            return self._attributes(await self._in_worker(call))
        return self._attributes(call())

    @answered
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return FileNameT(self._fs.readlink(NodeId(inode)))

    @answered
    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        self._fs.access(NodeId(inode), mode, ctx.uid, ctx.gid)
        return True

    @answered
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        return statfs_of(self._fs.statfs())

    # -- changing directories --

    def _made(self, attr: Attr, parent: NodeId, ctx: RequestContext) -> EntryAttributes:
        """Answer that directory `parent` has a new name, of what shows `attr`."""
        self._late.changed(parent, ctx.pid)
        return self._entry(attr)

    @answered
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        parent = NodeId(parent_inode)
        attr = self._fs.mknod(parent, name, mode, rdev, ctx.umask, ctx.uid, ctx.gid)
        return self._made(attr, parent, ctx)

    @answered
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        parent = NodeId(parent_inode)
        attr = self._fs.mkdir(parent, name, mode, ctx.umask, ctx.uid, ctx.gid)
        return self._made(attr, parent, ctx)

    @answered
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        parent = NodeId(parent_inode)
        attr = self._fs.symlink(parent, name, target, ctx.uid, ctx.gid)
        return self._made(attr, parent, ctx)

    @answered
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        fs = self._fs
        nodeid, parent = NodeId(inode), NodeId(new_parent_inode)
        if fs.slow_setattr(nodeid, TOUCH):
            attr = await self._in_worker(fs.link, nodeid, parent, new_name)
        else:
            attr = fs.link(nodeid, parent, new_name)
        return self._made(attr, parent, ctx)

    @answered
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        self._fs.unlink(NodeId(parent_inode), name)
        self._late.changed(NodeId(parent_inode), ctx.pid)

    @answered
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        self._fs.rmdir(NodeId(parent_inode), name)
        self._late.changed(NodeId(parent_inode), ctx.pid)

    @answered
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        move = (NodeId(parent_inode_old), name_old, NodeId(parent_inode_new), name_new, flags)
        swaps = flags & pyfuse3.RENAME_EXCHANGE
        if self._fs.slow_rename(NodeId(parent_inode_old), name_old) or (
            swaps and self._fs.slow_rename(NodeId(parent_inode_new), name_new)
        ):
            await self._in_worker(self._fs.rename, *move)
        else:
            self._fs.rename(*move)
        self._moved(NodeId(parent_inode_new), name_new, ctx.pid)
        if swaps or parent_inode_old != parent_inode_new:
            self._moved(NodeId(parent_inode_old), name_old, ctx.pid)

    def _moved(self, parent: NodeId, name: bytes, pid: int) -> None:
        """Note that a directory changed, and that what now is `name` in it has another ctime."""
        self._late.changed(parent, pid)
        nodeid = self._fs.known(parent, name)
        if nodeid is not None:
            self._late.changed(nodeid, pid)

    # -- files --

    @answered
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        fs = self._fs
        if fs.slow_open(NodeId(inode), flags):
            fh = await self._in_worker(fs.open, NodeId(inode), flags)
        else:
            fh = fs.open(NodeId(inode), flags)
        writer = Credentials(ctx.pid, ctx.gid)
        if flags & os.O_TRUNC and fs.has_suid(fh) and not writer.keeps_suid():
            try:
                self._drop_suid(fh, inode, writer)
            except OSError:
                fs.release(fh)
                raise
        return self._opened(fh, inode, flags, writer)

    @answered
    async def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        attr, fh = self._fs.create(
            NodeId(parent_inode), name, mode, flags, ctx.umask, ctx.uid, ctx.gid
        )
        self._late.changed(NodeId(parent_inode), ctx.pid)
        writer = Credentials(ctx.pid, ctx.gid)
        return self._opened(fh, InodeT(attr.nodeid), flags, writer), self._entry(attr)

    def _opened(self, fh: int, inode: InodeT, flags: int, opener: Credentials) -> FileInfo:
        if flags & os.O_ACCMODE:
            self._writers[fh] = inode, opener
        if flags & SYNCHRONOUS:
            self._synchronous.add(fh)
        if flags & os.O_DIRECT and flags & os.O_ACCMODE:
            self._direct.add(fh)
        appends = flags & os.O_APPEND and flags & os.O_ACCMODE and self._fs.only_appends(Fh(fh))
        return FileInfo(
            fh=FileHandleT(fh),
            # Without the page cache an append-only file cannot be mapped for writing.
            direct_io=bool(appends),
            keep_cache=self._keep_cache and not appends,
        )

    @answered
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        data = self._fs.read_nowait(Fh(fh), off, size)
        if data is None:
            data = await self._in_worker(self._fs.read, fh, off, size)
        return cast(bytes, data)  # pyfuse3 asks only for a buffer

    @answered
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        # pyfuse3 does not say which process writes.  It may be another process than the one
        # that opened the file, but that is the best guess.
        self._drop_suid(fh, *self._writers[fh])
        if fh in self._direct:
            return await self._in_worker(self._write_direct, fh, off, buf)
        if len(buf) > INLINE_WRITE or fh in self._synchronous:
            return await self._in_worker(self._fs.write, fh, off, buf)
        return self._fs.write(Fh(fh), off, buf)

    def _write_direct(self, fh: int, off: int, buf: bytes) -> int:
        """Write, and make the kernel drop the pages that others have read meanwhile.

        It does not do so by itself if the write is asynchronous, see `wire.session`.  The
        kernel waits for pages in use.  If these wait for the reply to this very write, they
        hold what it wrote.
        """
        inode, _ = self._writers[fh]
        done = self._fs.write(Fh(fh), off, buf)
        dropped = threading.Event()

        def drop() -> None:
            try:
                with suppress(FileNotFoundError):
                    pyfuse3.invalidate_inode(inode)
            finally:
                dropped.set()

        self.droppers.submit(drop)
        dropped.wait(PATIENCE_S)
        return done

    def _drop_suid(self, fh: int, inode: InodeT, writer: Credentials) -> None:
        if self._fs.drop_suid(Fh(fh), writer):
            # The reply makes the kernel forget size and times, not the mode.
            with suppress(FileNotFoundError):
                pyfuse3.invalidate_inode(inode, attr_only=True)

    @answered
    async def flush(self, fh: FileHandleT) -> None:
        self._fs.flush(Fh(fh))

    @answered
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._in_worker(self._fs.fsync, fh, datasync)

    @answered
    async def release(self, fh: FileHandleT) -> None:
        self._synchronous.discard(fh)
        self._direct.discard(fh)
        self._writers.pop(fh, None)
        self._fs.release(Fh(fh))

    # -- reading directories --

    @answered
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        fh = self._fs.opendir(NodeId(inode))
        self._directories[fh] = NodeId(inode), ctx.pid
        return FileHandleT(fh)

    @answered
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        fs = self._fs
        parent, pid = self._directories[fh]
        self._late.asked_many(pid)
        for found in fs.readdir(Fh(fh), start_id):
            entry, nodeid = self._listed(parent, found)
            if entry is None:
                continue
            if not pyfuse3.readdir_reply(token, FileNameT(found.name), entry, found.cookie):
                if nodeid is not None:
                    fs.forget(nodeid, 1)
                return

    def _listed(
        self, parent: NodeId, found: DirEntry
    ) -> tuple[EntryAttributes | None, NodeId | None]:
        """Return the entry to list for `found`, and the nodeid that it counts a reference to.

        The entry is None for a name that was removed meanwhile.  For "." and ".." the
        kernel takes no attributes and counts no reference.
        """
        if found.name in (b".", b".."):
            return name_only(found.st_ino, found.d_type), None
        try:
            attr = self._fs.lookup(parent, found.name)
        except OSError:
            # The name exists though its inode cannot be read: a LOOKUP of the name
            # reports why.  The kernel lists an entry that has the root's nodeid, links
            # no inode to it, and sends one FORGET of the root, which is ignored.
            return name_only(ROOT_NODEID, found.d_type), None
        if attr is None:
            return None, None
        return self._entry(attr), attr.nodeid

    @answered
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._in_worker(self._fs.fsyncdir, fh)

    @answered
    async def releasedir(self, fh: FileHandleT) -> None:
        del self._directories[fh]
        self._fs.releasedir(Fh(fh))

    # -- extended attributes --

    def _check_xattr(self, name: bytes | None) -> None:
        if not self._xattrs:
            raise FUSEError(errno.ENOSYS)  # the kernel stops asking and answers EOPNOTSUPP
        if not self._acl and name in ACL_NAMES:
            raise FUSEError(errno.EOPNOTSUPP)

    @answered
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        self._check_xattr(name)
        return self._fs.getxattr(NodeId(inode), name)

    @answered
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        self._check_xattr(None)
        names = self._fs.listxattr(NodeId(inode))
        # For FUSE the kernel leaves it to the filesystem to hide these.
        hides = any(name.startswith(TRUSTED) for name in names)
        if hides and not Credentials(ctx.pid, ctx.gid).sees_trusted():
            names = [name for name in names if not name.startswith(TRUSTED)]
        return [XAttrNameT(name) for name in names]

    @answered
    async def setxattr(
        self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext
    ) -> None:
        self._check_xattr(name)
        fs = self._fs
        # pyfuse3 has checked XATTR_CREATE and XATTR_REPLACE by a getxattr of its own.
        if fs.slow_setattr(NodeId(inode), TOUCH):
            await self._in_worker(fs.setxattr, NodeId(inode), name, value, 0)
        else:
            fs.setxattr(NodeId(inode), name, value, 0)
        if name == ACCESS_ACL:
            self._drop_sgid(NodeId(inode), Credentials(ctx.pid, ctx.gid))
        self._late.changed(NodeId(inode), ctx.pid)

    def _drop_sgid(self, nodeid: NodeId, setter: Credentials) -> None:
        """Take sgid away after an ACL was set by `setter`, who is not in the file's group.

        libfuse does not hand over SETXATTR_ACL_KILL_SGID, which says so.  Source:
        fs/posix_acl.c:posix_acl_update_mode().
        """
        attr = self._fs.getattr(nodeid)
        mode = attr.st.st_mode
        if not mode & stat.S_ISGID or setter.keeps_suid() or setter.is_member(attr.st_gid):
            return
        self._fs.setattr(nodeid, SetAttr(mode=stat.S_IMODE(mode) & ~stat.S_ISGID), None)

    @answered
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        self._check_xattr(name)
        fs = self._fs
        if fs.slow_setattr(NodeId(inode), TOUCH):
            await self._in_worker(fs.removexattr, NodeId(inode), name)
        else:
            fs.removexattr(NodeId(inode), name)
        self._late.changed(NodeId(inode), ctx.pid)
