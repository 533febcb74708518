"""The requests about open files, and the real files that the kernel reads by itself."""

from __future__ import annotations

import errno
import os
import threading
from typing import Protocol

from unionfs.credentials import Credentials
from unionfs.errors import fs_error
from unionfs.types import Attr, Backing, Fh, NodeId
from unionfs.vfs import INLINE_WRITE, DirectFilesystem
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.encode import Encoder
from unionfs.wire.request import Defer, Handlers, Request

# The bytes that one COPY_FILE_RANGE copies, few enough to need no worker thread.
INLINE_COPY = 1 << 20

_CHANGES = os.O_ACCMODE | os.O_TRUNC


class Backings(Protocol):
    """The kernel's table of real files that it may read and write by itself."""

    def register(self, fd: int, *, writes: bool) -> int:
        """Return the backing id of the real file `fd`, above 0; raises `OSError`.

        With `writes` the kernel removes suid and sgid from the file at every write.
        """
        ...

    def close(self, backing_id: int) -> None: ...


class Cache(Protocol):
    """The kernel's cache of files."""

    def store(self, nodeid: NodeId, data: bytes | bytearray) -> None:
        """Make `data` the content of the whole file `nodeid` in the page cache; best effort."""
        ...

    def forget_attributes(self, nodeid: NodeId) -> None:
        """Make the kernel ask for the attributes of `nodeid` before it next uses them."""
        ...


# The kernel's errors for a file that it will never pass through: the file is on a
# FUSE filesystem or on one that is stacked too deep, or we are not root.
_NEVER = (errno.EOPNOTSUPP, errno.ELOOP, errno.EPERM, errno.EINVAL)


# How many lower files stay open and registered after their last handle is closed.
_KEPT = 256

_ELF = b"\x7fELF"

# A lower file of at most so many bytes is given to the kernel as a whole.  It is the size
# of one READ with the kernel's default read-ahead.
_MOST_GIVEN = 128 << 10

_NO_FH = Fh(0)

# The version of a small file, which is never passed through to.
_SMALL = -1


class Mode:
    """How the kernel has an inode open, which is the same for all its handles.

    It reads and writes either the real file, by passthrough, or through the page cache and
    this process (`backing_id` 0).  The real file is that after `version` copy_ups.  `fh` is
    the handle that all readers of a lower file share, 0 for none.
    """

    __slots__ = ("backing_id", "fh", "flags", "handles", "version")

    def __init__(self, backing_id: int, version: int, flags: int) -> None:
        self.backing_id = backing_id
        self.version = version
        self.flags = flags
        self.handles = 1
        self.fh = _NO_FH


class Files:
    """OPEN to RELEASE, CREATE and TMPFILE.

    `backings` is None if the kernel sends every read and write to this process.

    The kernel allows an inode one backing file at a time.  A lower file that is read
    by passthrough cannot be written to through the same inode.  So passthrough is for
    lower files that are not expected to change: all files of a read-only mount, and
    programs and libraries (ELF), whose pages all mounts of a layer share.  With
    `pass_all` it is for every lower file.  An upper file always gets passthrough, except
    while it has suid or sgid: only a WRITE request says whether the writer may keep them.

    Pages are kept from one open to the next (KEEP_CACHE) only if no write by
    passthrough can have changed the file.

    A lower file of up to `_MOST_GIVEN` bytes without passthrough is given to the kernel
    with its first open.  That saves the READs, and the GETATTR after them, since a READ
    makes the kernel expect a new atime.  The pages are then in memory twice, as after a
    READ: the kernel also keeps those of the lower file.

    A lower file stays open after its last handle is closed.  Its next reader gets the same
    handle, without a system call.
    """

    def __init__(
        self,
        fs: DirectFilesystem,
        encoder: Encoder,
        *,
        keep_cache: bool,
        pass_all: bool,
        cache: Cache | None,
    ) -> None:
        self._fs = fs
        self._encoder = encoder
        self.backings: Backings | None = None
        self._cache = cache
        self._pass_all = pass_all
        self._keep = abi.FOPEN_NOFLUSH | (abi.FOPEN_KEEP_CACHE if keep_cache else 0)
        self._modes: dict[NodeId, Mode] = {}
        self._kept: dict[NodeId, Mode] = {}  # those without a handle, the latest last
        # The files that were given to the kernel, and those that will not be given.
        self.given: set[NodeId] = set()
        self._lock = threading.Lock()

    def handlers(self) -> Handlers:
        """Return each opcode with its handler and the size in bytes of its struct."""
        return [
            (Opcode.OPEN, self._open, abi.OPEN_IN.size),
            (Opcode.CREATE, self._create, abi.CREATE_IN.size),
            (Opcode.TMPFILE, self._tmpfile, abi.CREATE_IN.size),
            (Opcode.READ, self._read, abi.READ_IN.size),
            (Opcode.WRITE, self._write, abi.WRITE_IN.size),
            (Opcode.RELEASE, self._release, abi.RELEASE_IN.size),
            (Opcode.FSYNC, self._fsync, abi.FSYNC_IN.size),
            (Opcode.FALLOCATE, self._fallocate, abi.FALLOCATE_IN.size),
            (Opcode.LSEEK, self._lseek, abi.LSEEK_IN.size),
            (Opcode.COPY_FILE_RANGE, self._copy_range, abi.COPY_FILE_RANGE_IN.size),
            (Opcode.COPY_FILE_RANGE_64, self._copy_range_64, abi.COPY_FILE_RANGE_IN.size),
        ]

    def _open(self, request: Request) -> int:
        flags, open_flags = abi.OPEN_IN.unpack_from(request.args, request.at)
        fs = self._fs
        if flags & _CHANGES == os.O_RDONLY and self.backings is not None:
            mode = self._share(request.nodeid)
            if mode is not None:
                abi.OPEN_OUT.pack_into(
                    request.out, request.body, mode.fh, mode.flags, mode.backing_id
                )
                return abi.OPEN_OUT.size
        if not request.wait and fs.slow_open(request.nodeid, flags):
            raise Defer
        fh = fs.open(request.nodeid, flags)
        try:
            if open_flags & abi.OPEN_KILL_SUIDGID:
                self._drop_suid(fh, request)
            if self._cache is not None and request.nodeid not in self.given:
                self._give(self._cache, fh, request.nodeid, flags, request.wait)
        except (OSError, Defer):
            fs.release(fh)
            raise
        return self._put_open(fh, request.nodeid, flags, request, request.body)

    def _give(self, cache: Cache, fh: Fh, nodeid: NodeId, flags: int, wait: bool) -> None:
        """Give the kernel the content of a lower file at its first open, and never again.

        An OPEN of the inode is answered only when the inode is in `given`, and it is added
        only after the store.  So no READ of it is under way during the store: the store
        would wait for the pages of that READ, and the READ for this thread.  The file is
        read without a lock.  An OPEN for writing takes the lock before it is answered, so
        old content is never stored after a write.  Raises `Defer` to wait for a disk.
        """
        data = None
        if flags & _CHANGES == os.O_RDONLY:
            data = self._content_to_give(fh, wait)
        with self._lock:
            if nodeid not in self.given:
                if data is not None and self._fs.is_as_found(fh):
                    cache.store(nodeid, data)
                self.given.add(nodeid)

    def _content_to_give(self, fh: Fh, wait: bool) -> bytearray | None:
        """Return the content of a file, None if it is large or read by passthrough."""
        backing = None if self.backings is None else self._fs.backing(fh)
        if backing is not None and self._always_passes(backing):
            return None
        try:
            data = self._fs.first_content(fh, _MOST_GIVEN, wait)
        except BlockingIOError:
            if backing is None:
                # The disk reads now, and is mostly done when the READ comes.  That takes
                # less time than handing the OPEN to another thread.
                return None
            raise Defer from None
        if backing is not None and data is not None and data.startswith(_ELF):
            return None
        return data

    def _drop_suid(self, fh: Fh, request: Request) -> None:
        """Remove suid and sgid from a file that a thread without CAP_FSETID changes."""
        writer = Credentials(request.pid, request.gid)
        if self._fs.drop_suid(fh, writer) and self._cache is not None:
            # The reply makes the kernel forget size and times, not the mode.
            self._cache.forget_attributes(request.nodeid)

    def _judge(self, fh: Fh, nodeid: NodeId, request: Request) -> None:
        """Like `_drop_suid`, for a request that does not say whether the caller has CAP_FSETID."""
        if not self._fs.has_suid(fh):
            return
        writer = Credentials(request.pid, request.gid)
        if writer.keeps_suid() or not self._fs.drop_suid(fh, writer):
            return
        if self._cache is not None:
            self._cache.forget_attributes(nodeid)

    def _create(self, request: Request) -> int:
        flags, mode, umask, _ = abi.CREATE_IN.unpack_from(request.args, request.at)
        attr, fh = self._fs.create(
            request.nodeid, request.name(), mode, flags, umask, request.uid, request.gid
        )
        return self._created(attr, fh, flags, request)

    def _tmpfile(self, request: Request) -> int:
        flags, mode, umask, _ = abi.CREATE_IN.unpack_from(request.args, request.at)
        attr, fh = self._fs.tmpfile(request.nodeid, mode, flags, umask, request.uid, request.gid)
        return self._created(attr, fh, flags, request)

    def _created(self, attr: Attr, fh: Fh, flags: int, request: Request) -> int:
        at = request.body + abi.ENTRY_SIZE
        size = self._put_open(fh, attr.nodeid, flags, request, at)
        # After `_put_open`: an open for writing shortens how long the attributes are valid.
        return size + self._encoder.entry(attr, request)

    def _put_open(self, fh: Fh, nodeid: NodeId, flags: int, request: Request, at: int) -> int:
        open_flags, backing_id = self._keep, 0
        if self.backings is not None:
            mode = self._mode_for(self.backings, fh, nodeid, flags, request.wait)
            open_flags, backing_id = mode.flags, mode.backing_id
        abi.OPEN_OUT.pack_into(request.out, at, fh, open_flags, backing_id)
        return abi.OPEN_OUT.size

    def _mode_for(self, backings: Backings, fh: Fh, nodeid: NodeId, flags: int, wait: bool) -> Mode:
        """Return the mode of `nodeid` and count the handle `fh` in it; on errors release `fh`."""
        fs, writing = self._fs, flags & os.O_ACCMODE
        mode = None
        with self._lock:
            if writing:
                # Before the mode is read, so that a SETATTR that comes later sees the writer.
                self._encoder.add_writer(nodeid, mapped=writing == os.O_RDWR)
            try:
                mode = self._enter(backings, nodeid, fs.backing(fh), wait)
            finally:
                if mode is None:
                    fs.release(fh)
                    if writing:
                        self._encoder.remove_writer(nodeid, mapped=writing == os.O_RDWR)
            if mode is not None and mode.handles == 1:
                mode.fh = fh if mode.version >= 0 and fs.is_lasting(fh) else _NO_FH
        if mode is None:
            fs.renew(nodeid)
            raise fs_error(errno.ESTALE)
        if writing == os.O_RDWR and mode.backing_id and self._cache is not None:
            # The FUSE kernel code does not see that stores through a mapping change the times.
            self._cache.forget_attributes(nodeid)
        return mode

    def _enter(
        self, backings: Backings, nodeid: NodeId, backing: Backing | None, wait: bool
    ) -> Mode | None:
        """Return the mode to open `nodeid` in; the caller holds the lock.

        None if the kernel has another real file open for the inode: it allows one at a
        time.  The caller answers ESTALE, and the kernel looks the name up again, which then
        must lead to a new nodeid.  Raises `Defer` to wait for a disk.
        """
        mode = self._modes.get(nodeid)
        if mode is not None and not mode.handles:
            self._close(backings, nodeid, mode)
            mode = None
        if mode is not None:
            if mode.backing_id and (backing is None or mode.version != backing.version):
                return None
            mode.handles += 1
            return mode
        if backing is None:
            mode = Mode(0, _SMALL, self._keep)
        elif not self._passes(backing, wait):
            mode = Mode(0, backing.version, self._keep if backing.pristine else abi.FOPEN_NOFLUSH)
        else:
            try:
                passthrough = abi.FOPEN_PASSTHROUGH | abi.FOPEN_NOFLUSH
                backing_id = backings.register(backing.fd, writes=backing.may_change)
                mode = Mode(backing_id, backing.version, passthrough)
            except OSError as error:
                mode = Mode(0, backing.version, self._keep if error.errno in _NEVER else 0)
        self._modes[nodeid] = mode
        return mode

    def _passes(self, backing: Backing, wait: bool) -> bool:
        """Tell whether a file gets passthrough; raises `Defer` to wait for a disk."""
        if backing.suid:
            return False
        if self._always_passes(backing):
            return True
        start = bytearray(len(_ELF))
        try:
            os.preadv(backing.fd, [start], 0, 0 if wait else os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise Defer from None
            return False
        return start == _ELF

    def _always_passes(self, backing: Backing) -> bool:
        """Tell whether a file without suid gets passthrough, whatever its content is."""
        return self._pass_all or backing.may_change or backing.fixed

    def _share(self, nodeid: NodeId) -> Mode | None:
        """Return the mode of `nodeid` and count one more reader, None if it must be opened."""
        with self._lock:
            mode = self._modes.get(nodeid)
            if mode is None or not mode.fh:
                return None
            if not self._fs.is_current(mode.fh, nodeid, mode.version):
                return None
            if not mode.handles:
                del self._kept[nodeid]
            mode.handles += 1
            return mode

    def _release(self, request: Request) -> int:
        fh, flags, _, _ = abi.RELEASE_IN.unpack_from(request.args, request.at)
        self.close_handle(fh, flags, request.nodeid)
        return 0

    def close_handle(self, fh: Fh, flags: int, nodeid: NodeId) -> None:
        """Close `fh`, a handle of `nodeid` opened with `flags`."""
        backings = self.backings
        if backings is None:
            self._fs.release(fh)
            return
        with self._lock:
            mode = self._modes[nodeid]
            mode.handles -= 1
            if flags & os.O_ACCMODE:
                mapped = flags & os.O_ACCMODE == os.O_RDWR
                self._encoder.remove_writer(nodeid, mapped=mapped)
            shared = fh == mode.fh
            if not mode.handles:
                if mode.fh:
                    self._kept[nodeid] = mode
                    if len(self._kept) > _KEPT:
                        oldest = next(iter(self._kept))
                        self._close(backings, oldest, self._kept[oldest])
                else:
                    self._close(backings, nodeid, mode)
        if not shared:
            self._fs.release(fh)

    def _close(self, backings: Backings, nodeid: NodeId, mode: Mode) -> None:
        """Drop the mode of `nodeid`, which no handle needs; the caller holds the lock."""
        del self._modes[nodeid]
        if mode.backing_id:
            backings.close(mode.backing_id)
        if mode.fh:
            self._kept.pop(nodeid, None)
            self._fs.release(mode.fh)

    def _read(self, request: Request) -> int:
        fh, offset, size, *_ = abi.READ_IN.unpack_from(request.args, request.at)
        at = request.body
        view = memoryview(request.out)[at : at + min(size, request.limit)]
        done = self._fs.readinto(fh, offset, view, request.wait)
        if done is None:
            raise Defer
        return done

    def _write(self, request: Request) -> int:
        fh, offset, size, flags, *_ = abi.WRITE_IN.unpack_from(request.args, request.at)
        if size > INLINE_WRITE and not request.wait:
            raise Defer
        if flags & abi.WRITE_KILL_SUIDGID:
            self._drop_suid(fh, request)
        view = memoryview(request.data)[request.start : request.start + size]
        done = self._fs.write(fh, offset, view)
        abi.WRITE_OUT.pack_into(request.out, request.body, done, 0)
        return abi.WRITE_OUT.size

    def _fsync(self, request: Request) -> int:
        if not request.wait:
            raise Defer
        fh, flags, _ = abi.FSYNC_IN.unpack_from(request.args, request.at)
        self._fs.fsync(fh, bool(flags & abi.FSYNC_FDATASYNC))
        return 0

    def _fallocate(self, request: Request) -> int:
        if not request.wait:
            raise Defer
        fh, offset, length, mode, _ = abi.FALLOCATE_IN.unpack_from(request.args, request.at)
        self._judge(fh, request.nodeid, request)
        self._fs.fallocate(fh, mode, offset, length)
        return 0

    def _lseek(self, request: Request) -> int:
        fh, offset, whence, _ = abi.LSEEK_IN.unpack_from(request.args, request.at)
        abi.LSEEK_OUT.pack_into(request.out, request.body, self._fs.lseek(fh, offset, whence))
        return abi.LSEEK_OUT.size

    def _copy(self, request: Request) -> int:
        fh, offset, nodeid, target, target_offset, length, _ = abi.COPY_FILE_RANGE_IN.unpack_from(
            request.args, request.at
        )
        self._judge(target, nodeid, request)
        # We may copy less than asked, so nothing has to wait for a long copy.
        return self._fs.copy_range(fh, offset, target, target_offset, min(length, INLINE_COPY))

    def _copy_range(self, request: Request) -> int:
        abi.WRITE_OUT.pack_into(request.out, request.body, self._copy(request), 0)
        return abi.WRITE_OUT.size

    def _copy_range_64(self, request: Request) -> int:
        abi.COPY_FILE_RANGE_OUT.pack_into(request.out, request.body, self._copy(request))
        return abi.COPY_FILE_RANGE_OUT.size
