"""The requests about open files, and the real files that the kernel reads by itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager

from unionfs.credentials import Credentials
from unionfs.errors import fs_error
from unionfs.loader import StillRunning
from unionfs.types import Attr, Fh, NodeId
from unionfs.vfs import INLINE_WRITE, DirectFilesystem
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.encode import Encoder
from unionfs.wire.late_replies import LateReplies
from unionfs.wire.locks import Locks
from unionfs.wire.modes import ELF, Backings, Cache, Mode, Modes, Use
from unionfs.wire.request import Defer, Handlers, Request
from unionfs.wire.unopened import Unopened

# The bytes that one COPY_FILE_RANGE copies, few enough to need no worker thread.
INLINE_COPY = 1 << 20

# A lower file of at most so many bytes is given to the kernel as a whole.
_MOST_GIVEN = 128 << 10

_CHANGES = os.O_ACCMODE | os.O_TRUNC


class Files:
    """OPEN to RELEASE, CREATE and TMPFILE.

    `modes` decides which files the kernel reads and writes by itself.  `kept` are the inodes that
    stay open until the kernel forgets them.

    A lower file of up to `_MOST_GIVEN` bytes without passthrough is given to the kernel
    with its first open.  That saves the READs, and the GETATTR after them, since a READ
    makes the kernel expect a new atime.  The pages are then in memory twice, as after a
    READ: the kernel also keeps those of the lower file.
    """

    def __init__(
        self,
        fs: DirectFilesystem,
        encoder: Encoder,
        *,
        keep_cache: bool,
        pass_all: bool,
        cache: Cache | None,
        locks: Locks | None,
        late: LateReplies,
    ) -> None:
        self._fs = fs
        self._encoder = encoder
        self._cache = cache
        self._locks = locks
        self._late = late
        self._keep = abi.FOPEN_NOFLUSH | (abi.FOPEN_KEEP_CACHE if keep_cache else 0)
        self._modes = Modes(fs, encoder, cache, keep=self._keep, pass_all=pass_all)
        # The files that were given to the kernel, and those that will not be given.
        self._given: set[NodeId] = set()
        fs.watch_freed(self._given.discard)
        self._unopened: Unopened | None = None
        self.kept: Container[NodeId] = self._modes.kept_small

    def open_nothing(self) -> None:
        """Let the kernel read files without opening them; the union is read-only."""
        self._unopened = Unopened(self._fs)
        self.kept = self._unopened.kept

    def pass_through(self, backings: Backings | None) -> None:
        """Register real files in `backings`; with None the kernel sends every read and write."""
        self._modes.backings = backings
        if backings is not None:
            self._fs.note_passthrough()

    @contextmanager
    def changing(self, nodeid: NodeId, *, wait: bool) -> Iterator[None]:
        """Hold readers of the lower file `nodeid` off while it is truncated.

        Raises what `Modes.begin_change` does.
        """
        self._modes.begin_change(nodeid, wait)
        try:
            yield
        finally:
            self._modes.end_change(nodeid)

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
        if self._unopened is not None:
            raise fs_error(errno.ENOSYS)  # the kernel does not send this opcode again
        flags, open_flags = abi.OPEN_IN.unpack_from(request.args, request.at)
        modes = self._modes
        if flags & _CHANGES == os.O_RDONLY:
            mode = modes.share(request, flags)
            if mode is not None:
                return self._shared(mode, request)
            if self._cache is not None and request.nodeid not in self._given:
                opened = self._fs.open_small(request.nodeid, flags, request.wait)
                if opened is not None:
                    return self._open_small(self._cache, request, flags, *opened)
            return self._open_anew(request, flags, open_flags)
        modes.begin_change(request.nodeid, request.wait)
        try:
            return self._open_anew(request, flags, open_flags)
        finally:
            modes.end_change(request.nodeid)

    def _defer_slow_open(self, request: Request, flags: int) -> None:
        if not request.wait and self._fs.slow_open(request.nodeid, flags):
            raise Defer

    def _shared(self, mode: Mode, request: Request) -> int:
        """Answer an OPEN with the handle that the readers of a file share."""
        abi.OPEN_OUT.pack_into(request.out, request.body, mode.fh, mode.flags, mode.backing_id)
        return abi.OPEN_OUT.size

    def _open_small(
        self,
        cache: Cache,
        request: Request,
        flags: int,
        fh: Fh,
        version: int,
        data: bytearray | None,
    ) -> int:
        """Do what `_give` and `_put_open` do, for the first OPEN of a small file: most are that."""
        nodeid, modes = request.nodeid, self._modes
        with modes.lock:
            as_found = self._fs.is_as_found(fh)
            self._give_locked(cache, nodeid, data if as_found else None)
            mode = modes.begin_small_locked(fh, nodeid, version) if as_found else None
        if mode is None:
            return self._put_open(fh, nodeid, flags, request, request.body)
        return self._shared(mode, request)

    def _open_anew(self, request: Request, flags: int, open_flags: int) -> int:
        fs = self._fs
        self._defer_slow_open(request, flags)
        fh = fs.open(request.nodeid, flags)
        use = None
        try:
            if open_flags & abi.OPEN_KILL_SUIDGID:
                self._drop_suid(fh, request)
            if self._cache is not None and request.nodeid not in self._given:
                use = self._give(self._cache, fh, request, flags)
        except (OSError, Defer):
            fs.release(fh)
            raise
        return self._put_open(fh, request.nodeid, flags, request, request.body, use)

    def _give(self, cache: Cache, fh: Fh, request: Request, flags: int) -> Use | None:
        """Give the kernel the content of a lower file at its first open, and never again.

        Returns what the file is used as, None if that was not looked at.

        An OPEN of the inode is answered only when the inode is in `_given`, and it is added
        only after the store.  So no READ of it is under way during the store.  If one were, the
        store would wait for the pages of that READ, and the READ for this thread.  The file is
        read without a lock.  A change of its data begins and ends under the lock, so old
        content is never stored after it.  Raises `Defer` to wait for a disk.
        """
        nodeid, data, use = request.nodeid, None, None
        if flags & _CHANGES == os.O_RDONLY:
            data, use = self._content_to_give(fh, request, flags)
        with self._modes.lock:
            self._give_locked(cache, nodeid, data if self._fs.is_as_found(fh) else None)
        return use

    def _give_locked(self, cache: Cache, nodeid: NodeId, data: bytearray | None) -> None:
        """Give the kernel `data`, if any, and note that; the caller holds the lock of the modes.

        Nothing is given if another thread was first, or while the data is changed.
        """
        given = self._given
        if nodeid not in given:
            if data is not None and not self._modes.is_changing_locked(nodeid):
                cache.store(nodeid, data)
            given.add(nodeid)

    def _content_to_give(
        self, fh: Fh, request: Request, flags: int
    ) -> tuple[bytearray | None, Use | None]:
        """Return the content of a file, None if it is large or read by passthrough, and its use."""
        modes = self._modes
        backing = None if modes.backings is None else self._fs.backing(fh)
        if backing is not None and modes.always_passes(backing):
            return None, None
        try:
            data = self._fs.first_content(fh, _MOST_GIVEN, request.wait)
        except BlockingIOError:
            if backing is None:
                # The disk reads now, and is mostly done when the READ comes.  That takes
                # less time than handing the OPEN to another thread.
                return None, None
            raise Defer from None
        if backing is None or data is None:
            return data, None
        if not data.startswith(ELF):
            return data, Use.DATA
        try:
            runs = modes.is_to_run(request, flags)
        except StillRunning:
            return None, None
        return (None, Use.RUN) if runs else (data, Use.PROGRAM)

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
        self._encoder.put_entry(attr, request.out, request.body)
        return size + abi.ENTRY_SIZE

    def _put_open(
        self,
        fh: Fh,
        nodeid: NodeId,
        flags: int,
        request: Request,
        at: int,
        use: Use | None = None,
    ) -> int:
        open_flags, backing_id = self._keep, 0
        mode = self._modes.open(fh, nodeid, flags, request, use)
        if mode is not None:
            open_flags, backing_id = mode.flags, mode.backing_id
            maps = backing_id and flags & os.O_ACCMODE == os.O_RDWR
            if maps and nodeid == request.nodeid and self._cache is not None:
                # The FUSE kernel code does not see that stores through a mapping change
                # the times.  A file that is being created is not in its cache yet.
                self._cache.forget_attributes(nodeid)
        appends = flags & os.O_APPEND and not backing_id and flags & os.O_ACCMODE
        if appends and self._fs.only_appends(fh):
            # Without the page cache the file cannot be mapped for writing.
            open_flags = open_flags & ~abi.FOPEN_KEEP_CACHE | abi.FOPEN_DIRECT_IO
        abi.OPEN_OUT.pack_into(request.out, at, fh, open_flags, backing_id)
        return abi.OPEN_OUT.size

    def _release(self, request: Request) -> int:
        fh, flags, what, owner = abi.RELEASE_IN.unpack_from(request.args, request.at)
        if what & abi.RELEASE_FLOCK_UNLOCK and self._locks is not None:
            self._locks.release(owner)
        self._modes.release(request.nodeid, fh, flags)
        return 0

    def forget(self, nodeid: NodeId) -> None:
        """Close the inode `nodeid`, which is `kept`, and which the kernel may have forgotten."""
        if self._unopened is None:
            self._modes.forget(nodeid)
        else:
            self._unopened.forget(nodeid)

    def close_handle(self, fh: Fh, flags: int, nodeid: NodeId) -> None:
        """Close `fh`, a handle of `nodeid` opened with `flags`."""
        self._modes.release(nodeid, fh, flags)

    def _read(self, request: Request) -> int:
        fh, offset, size, *_ = abi.READ_IN.unpack_from(request.args, request.at)
        at = request.body
        view = memoryview(request.out)[at : at + min(size, request.limit)]
        if self._unopened is None:
            done = self._fs.readinto(fh, offset, view, request.wait)
        else:
            done = self._unopened.with_handle(
                request.nodeid, lambda fh: self._fs.readinto(fh, offset, view, request.wait)
            )
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
        if self._unopened is not None:
            return 0
        self._fs.fsync(fh, bool(flags & abi.FSYNC_FDATASYNC))
        return 0

    def _fallocate(self, request: Request) -> int:
        if not request.wait:
            raise Defer
        fh, offset, length, mode, _ = abi.FALLOCATE_IN.unpack_from(request.args, request.at)
        self._judge(fh, request.nodeid, request)
        self._fs.fallocate(fh, mode, offset, length)
        self._late.changed(request.nodeid, request.pid)
        return 0

    def _lseek(self, request: Request) -> int:
        fh, offset, whence, _ = abi.LSEEK_IN.unpack_from(request.args, request.at)
        unopened = self._unopened
        if unopened is None:
            found = self._fs.lseek(fh, offset, whence)
        else:
            found = unopened.with_handle(
                request.nodeid, lambda fh: self._fs.lseek(fh, offset, whence)
            )
        abi.LSEEK_OUT.pack_into(request.out, request.body, found)
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
