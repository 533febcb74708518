"""One FUSE connection: INIT, and each opcode as a call of the filesystem.

Decided here and only here: what INIT agrees on with the kernel, and what each
request and reply mean.  This room has no fd of the connection; for passthrough it uses the
`Backings` of a transport.

A handler returns the length of the reply's body in bytes, or raises the `OSError`
to answer; where an error is the usual answer it returns the negative errno, which takes less
time.  If it might have to wait for a disk and `Request.wait` does not allow that, it
raises `Defer` before it has done anything.

Source: include/uapi/linux/fuse.h; fs/fuse/*.c for when the kernel sends which opcode.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from unionfs.errors import errno_of, fs_error
from unionfs.light_typing import NamedTuple
from unionfs.types import NodeId
from unionfs.vfs import DirectFilesystem, Notifier
from unionfs.wire import abi
from unionfs.wire.abi import Init, Opcode, opcode_name
from unionfs.wire.dirs import Demand, Directories
from unionfs.wire.encode import Encoder
from unionfs.wire.files import Files
from unionfs.wire.inodes import Inodes
from unionfs.wire.late_replies import LateReplies
from unionfs.wire.listings import Listings
from unionfs.wire.locks import Locks
from unionfs.wire.modes import Backings, Cache
from unionfs.wire.names import Names
from unionfs.wire.request import Defer, Part, Request, Room
from unionfs.wire.take_back import take_back

MAX_PAGES = 256
PAGE = 4096
MAX_WRITE = MAX_PAGES * PAGE
# The longest request: max_write bytes of data after a header and a struct.
BUFFER_SIZE = MAX_WRITE + PAGE

_OPCODES = 64
_HEAD = abi.OUT_HEADER.size
_put_head = abi.OUT_HEADER.pack_into
_FORGET = Opcode.FORGET  # an attribute of an enum takes longer to read
_unpack_forget = abi.FORGET_IN.unpack_from

_NAMING = (
    Opcode.SYMLINK,
    Opcode.MKNOD,
    Opcode.MKDIR,
    Opcode.CREATE,
    Opcode.LINK,
    Opcode.UNLINK,
    Opcode.RMDIR,
    Opcode.RENAME,
    Opcode.RENAME2,
)
_CREATING = (Opcode.SYMLINK, Opcode.MKNOD, Opcode.MKDIR, Opcode.CREATE, Opcode.TMPFILE)

# Not ASYNC_DIO: at the end of an asynchronous direct write the kernel does not drop the
# pages that others have read meanwhile, so they would see the old data for good
# (fs/fuse/file.c:fuse_aio_complete(); mm/filemap.c:generic_file_direct_write()).
_ALWAYS = (
    Init.ASYNC_READ
    | Init.ATOMIC_O_TRUNC
    | Init.BIG_WRITES
    | Init.DONT_MASK
    | Init.HAS_IOCTL_DIR
    | Init.DO_READDIRPLUS
    | Init.PARALLEL_DIROPS
    | Init.ABORT_ERROR
    | Init.MAX_PAGES
    | Init.HANDLE_KILLPRIV_V2
    | Init.SETXATTR_EXT
    | Init.INIT_EXT
    # A nodeid is valid only until the kernel forgets it, so it cannot be a file handle.
    | Init.NO_EXPORT_SUPPORT
)


class Terms(NamedTuple):
    """The settings of a connection.

    `timeout` is in seconds, None for ever.  `backings` is None if passthrough must
    not be used; `pass_all` uses it for all lower files.  `cache` is None if
    the kernel's cache must not be changed.  `stack_depth` is the number of stacked
    filesystems beneath the mount.  `may_hang`: see `vfs.Filesystem`.  With
    `counts_reads` the kernel asks for every listing, and for the data at every open, and keeps
    none.  With `no_open`, for a read-only union, it opens files without a request.
    """

    timeout: float | None = None
    acl: bool = True
    xattrs: bool = True
    uring: bool = False
    backings: Backings | None = None
    pass_all: bool = False
    cache: Cache | None = None
    stack_depth: int = 1
    may_hang: bool = False
    counts_reads: bool = False
    no_open: bool = False


def _apart(handler: Callable[[Request], int]) -> Callable[[Request], int]:
    """Return a handler that always defers, for a union in which every call may hang."""

    def handle(request: Request) -> int:
        if not request.wait:
            raise Defer
        return handler(request)

    return handle


def _with_ids(handler: Callable[[Request], int]) -> Callable[[Request], int]:
    """Return a handler that refuses callers whose ids the mount does not have, as the kernel does.

    With ALLOW_IDMAP it leaves that to us.  Source: fs/fuse/dev.c:fuse_get_req().
    """

    def handle(request: Request) -> int:
        if request.uid == abi.INVALID_UIDGID or request.gid == abi.INVALID_UIDGID:
            raise fs_error(errno.EOVERFLOW)
        return handler(request)

    return handle


def _noting(
    handler: Callable[[Request], int], listings: Listings, late: LateReplies, *, moves: bool
) -> Callable[[Request], int]:
    """Return a handler that then notes in which directories names may have changed.

    The struct of a request that `moves` a name begins with the other directory.
    """
    readers, programs = listings.readers, late.programs

    def handle(request: Request) -> int:
        try:
            return handler(request)
        finally:
            nodeid, pid = request.nodeid, request.pid
            if readers:
                listings.changed(nodeid)
            if programs:
                late.changed(nodeid, pid)
            if moves:
                (target,) = abi.RENAME_IN.unpack_from(request.args, request.at)
                if target != nodeid:
                    listings.changed(target)
                    late.changed(target, pid)

    return handle


class Session:
    """One connection to the kernel.

    `counts` has the number of requests by opcode.  `argument_sizes` has, after INIT, the size
    in bytes of the opcode's own struct for each opcode that has a reply.  `names_changed` is to
    be called with each directory in which names were changed without a request.
    """

    def __init__(self, fs: DirectFilesystem, terms: Terms) -> None:
        self.terms = terms
        self.flags = 0
        self.minor = 0
        self.counts = [0] * _OPCODES
        self._forget = fs.forget
        self.may_hang = terms.may_hang
        encoder = Encoder(terms.timeout)
        locks = Locks(fs) if terms.pass_all and terms.backings is not None else None
        self.late_replies = late = LateReplies(terms.cache)
        self._files = Files(
            fs,
            encoder,
            keep_cache=terms.timeout is None and not terms.counts_reads,
            pass_all=terms.pass_all,
            cache=terms.cache,
            locks=locks,
            late=late,
        )
        self._inodes = Inodes(
            fs, encoder, self._files.changing, late, xattrs=terms.xattrs, cache=terms.cache
        )
        demand = Demand()
        self._listings = Listings()
        self.names_changed = self._listings.changed
        self._parts: list[Part] = [
            Names(fs, encoder, demand, late),
            self._inodes,
            self._files,
            Directories(
                fs, encoder, demand, self._listings, late, terms.cache, opens=terms.counts_reads
            ),
        ]
        if locks is not None:
            self._parts.append(locks)
        self._handlers: dict[int, Callable[[Request], int]] = {}
        self.argument_sizes: dict[int, int] = {}

    def init(self, request: bytes | Room | memoryview) -> bytes:
        """Agree on the terms by the INIT `request` with its header; return the whole reply.

        Raises EPROTO for a kernel whose protocol is too old.
        """
        unique = abi.IN_HEADER.unpack_from(request)[2]
        at = abi.IN_HEADER.size
        major, minor, readahead, offered = abi.INIT_IN.unpack_from(request, at)
        if major != abi.MAJOR or minor < abi.OLDEST_MINOR:
            raise OSError(errno.EPROTO, f"the kernel speaks FUSE {major}.{minor}, 7.31 is needed")
        if offered & Init.INIT_EXT and len(request) >= at + abi.INIT_IN.size + 4:
            (flags2,) = abi.INIT_IN_FLAGS2.unpack_from(request, at + abi.INIT_IN.size)
            offered |= flags2 << 32
        self.minor = min(minor, abi.MINOR)
        self.flags = self._wanted() & offered
        self._inodes.extended = bool(self.flags & Init.SETXATTR_EXT)
        if self.flags & Init.NO_OPEN_SUPPORT:
            self._files.open_nothing()
        self._files.pass_through(self.terms.backings if self.flags & Init.PASSTHROUGH else None)
        for part in self._parts:
            for opcode, handler, size in part.handlers():
                if opcode in _CREATING and self.flags & Init.ALLOW_IDMAP:
                    handler = _with_ids(handler)
                if opcode in _NAMING:
                    moves = opcode in (Opcode.RENAME, Opcode.RENAME2)
                    handler = _noting(handler, self._listings, self.late_replies, moves=moves)
                self._handlers[opcode] = _apart(handler) if self.may_hang else handler
                self.argument_sizes[opcode] = size
        body = abi.INIT_OUT.pack(
            abi.MAJOR,
            self.minor,
            readahead,
            self.flags & 0xFFFFFFFF,
            64,  # max_background: requests for readahead and writeback at the same time
            48,  # congestion_threshold
            MAX_WRITE,
            1,  # time_gran, in ns
            MAX_PAGES,
            0,
            self.flags >> 32,
            self.terms.stack_depth if self.flags & Init.PASSTHROUGH else 0,
            0,
        )
        return abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(body), 0, unique) + body

    def _wanted(self) -> int:
        wanted = _ALWAYS
        if not self.terms.counts_reads:
            wanted |= Init.NO_OPENDIR_SUPPORT
        if self.terms.acl:
            # The kernel allows idmapped mounts only where it checks permissions itself, which
            # POSIX_ACL makes it do.
            wanted |= Init.POSIX_ACL | Init.ALLOW_IDMAP
        if self.terms.timeout is None:
            wanted |= Init.CACHE_SYMLINKS
        else:
            wanted |= Init.AUTO_INVAL_DATA
        if self.terms.no_open and not self.terms.counts_reads:
            wanted |= Init.NO_OPEN_SUPPORT
        elif self.terms.backings is not None:
            wanted |= Init.PASSTHROUGH
            if self.terms.pass_all:
                wanted |= Init.FLOCK_LOCKS
        if self.terms.uring:
            wanted |= Init.OVER_IO_URING
        return wanted

    def argument_size(self, opcode: int) -> int:
        """Return the size in bytes of the opcode's own struct; 0 for an unknown opcode."""
        return self.argument_sizes.get(opcode, 0)

    def counters(self) -> dict[str, int]:
        """Return the number of requests by opcode, without opcodes that were never sent."""
        return {opcode_name(opcode): asked for opcode, asked in enumerate(self.counts) if asked}

    def answer(self, request: Request, head: Room) -> int:
        """Serve `request`, put the reply's header into `head`; return the length of the reply.

        Raises `Defer`.
        """
        opcode = request.opcode
        handler = self._handlers.get(opcode)
        if handler is None:
            size = -errno.ENOSYS  # the kernel does not send this opcode again
        else:
            self.counts[opcode] += 1
            try:
                size = handler(request)
            except Defer:
                self.counts[opcode] -= 1  # it will be served again
                raise
            except OSError as error:
                size = -(errno_of(error, "") if error.errno else errno.EIO)
            except Exception as error:
                size = -errno_of(error, opcode_name(opcode))
        if size < 0:
            _put_head(head, 0, _HEAD, size, request.unique)
            return _HEAD
        length = _HEAD + size
        _put_head(head, 0, length, 0, request.unique)
        return length

    def take_back(self, request: Request, length: int, notifier: Notifier) -> None:
        """Undo `request`, whose reply of `length` bytes the kernel did not get.

        The kernel got EINTR instead.  If the reply is an error, there is nothing to undo.
        """
        take_back(self._files, self._forget, request, length - abi.OUT_HEADER.size, notifier)

    def forget(self, opcode: int, nodeid: NodeId, data: bytes | Room, at: int) -> None:
        """Serve a FORGET or BATCH_FORGET, which have no reply; its struct is in `data` at `at`."""
        self.counts[opcode] += 1
        files, forget = self._files, self._forget
        if opcode == _FORGET:
            if nodeid in files.kept:
                files.forget(nodeid)
            forget(nodeid, _unpack_forget(data, at)[0])
            return
        (count, _) = abi.BATCH_FORGET_IN.unpack_from(data, at)
        at += abi.BATCH_FORGET_IN.size
        for position in range(at, at + count * abi.FORGET_ONE.size, abi.FORGET_ONE.size):
            nodeid, nlookup = abi.FORGET_ONE.unpack_from(data, position)
            if nodeid in files.kept:
                files.forget(nodeid)
            forget(nodeid, nlookup)
