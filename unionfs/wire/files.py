"""The requests about open files, and the real files the kernel reads by itself."""

from __future__ import annotations

import errno
import os
import threading
from typing import Protocol

from unionfs.errors import fs_error
from unionfs.types import Attr
from unionfs.vfs import DirectFilesystem
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.encode import Encoder
from unionfs.wire.request import Defer, Handlers, Request

# A copy into the page cache below these sizes is cheaper than a hop to a thread.
INLINE_WRITE = 256 << 10
INLINE_COPY = 1 << 20

_CHANGES = os.O_ACCMODE | os.O_TRUNC


class Backings(Protocol):
    """The kernel's table of real files that it may read and write by itself."""

    def register(self, fd: int) -> int:
        """Return the backing id of the real file `fd`, above 0; raises `OSError`."""
        ...

    def close(self, backing_id: int) -> None: ...


class Pages(Protocol):
    """The kernel's pages of the files it has."""

    def store(self, nodeid: int, data: bytes | bytearray) -> None:
        """Have `data` in the pages of `nodeid`, the whole of it; best effort."""
        ...


# What the kernel answers for a file it will never take: it is on a filesystem
# that cannot be read so (FUSE, or stacked too deep), or we are not root.
_NEVER = (errno.EOPNOTSUPP, errno.ELOOP, errno.EPERM, errno.EINVAL)


# How many lower files stay open, and registered, after their last close.
_KEPT = 256


class Mode:
    """How the kernel has an inode open, which is one and the same way for all handles.

    By passthrough to the real file number `version` of the inode, or with a
    `backing_id` of 0 through us and its page cache.  `fh` is the one that all
    readers of a lower file share, 0 for none.
    """

    __slots__ = ("backing_id", "fh", "flags", "handles", "version")

    def __init__(self, backing_id: int, version: int, flags: int) -> None:
        self.backing_id = backing_id
        self.version = version
        self.flags = flags
        self.handles = 1
        self.fh = 0


class Files:
    """OPEN to RELEASE, CREATE and TMPFILE.

    `backings` is None where the kernel asks us for every read and write.

    Pages are kept from one open to the next (KEEP_CACHE) only while nobody can
    have changed the file past them, by passthrough.

    A small lower file is given to the kernel with its first open: that saves the
    READ, and the GETATTR that a READ makes necessary, since the kernel then takes
    its atime for changed.

    A lower file read by passthrough stays open after its last close, and whoever
    reads it next gets the same handle, without a system call.
    """

    def __init__(
        self, fs: DirectFilesystem, encoder: Encoder, *, keep_cache: bool, pages: Pages | None
    ) -> None:
        self._fs = fs
        self._encoder = encoder
        self.backings: Backings | None = None
        self._pages = pages
        self._keep = abi.FOPEN_NOFLUSH | (abi.FOPEN_KEEP_CACHE if keep_cache else 0)
        self._modes: dict[int, Mode] = {}
        self._kept: dict[int, Mode] = {}  # those of `_modes` with no handle, latest last
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
        if open_flags & abi.OPEN_KILL_SUIDGID or (
            request.uid and self.backings is not None and flags & os.O_ACCMODE
        ):
            # Writes by passthrough are made with our own privileges, and none
            # of them tells us who made it.
            try:
                fs.drop_suid(fh)
            except OSError:
                fs.release(fh)
                raise
        if self._pages is not None and flags & _CHANGES == os.O_RDONLY:
            self._give(self._pages, fh, request.nodeid)
        return self._put_open(fh, request.nodeid, request, request.body)

    def _give(self, pages: Pages, fh: int, nodeid: int) -> None:
        """Give the kernel what a small file holds, unless it was given that before.

        Under the lock, and before any open of the inode is answered: so there is
        no READ of it under way, whose pages the kernel would wait for while it
        waits for us.
        """
        with self._lock:
            data = self._fs.first_content(fh)
            if data is not None:
                pages.store(nodeid, data)

    def _create(self, request: Request) -> int:
        flags, mode, umask, _ = abi.CREATE_IN.unpack_from(request.args, request.at)
        attr, fh = self._fs.create(
            request.nodeid, request.name(), mode, flags, umask, request.uid, request.gid
        )
        return self._created(attr, fh, request)

    def _tmpfile(self, request: Request) -> int:
        flags, mode, umask, _ = abi.CREATE_IN.unpack_from(request.args, request.at)
        attr, fh = self._fs.tmpfile(request.nodeid, mode, flags, umask, request.uid, request.gid)
        return self._created(attr, fh, request)

    def _created(self, attr: Attr, fh: int, request: Request) -> int:
        size = self._encoder.entry(attr, request)
        return size + self._put_open(fh, attr.nodeid, request, request.body + size)

    def _put_open(self, fh: int, nodeid: int, request: Request, at: int) -> int:
        flags, backing_id = self._keep, 0
        if self.backings is not None:
            backing = self._fs.backing(fh)
            with self._lock:
                mode = self._enter(self.backings, nodeid, backing)
                if mode is not None and mode.handles == 1 and mode.backing_id:
                    mode.fh = fh if self._fs.is_lasting(fh) else 0
            if mode is None:
                self._fs.release(fh)
                self._fs.renew(nodeid)
                raise fs_error(errno.ESTALE)
            flags, backing_id = mode.flags, mode.backing_id
        abi.OPEN_OUT.pack_into(request.out, at, fh, flags, backing_id)
        return abi.OPEN_OUT.size

    def _enter(
        self, backings: Backings, nodeid: int, backing: tuple[int, int] | None
    ) -> Mode | None:
        """Return the mode to open `nodeid` in; the caller holds the lock.

        None where the kernel has the inode open by another real file: it allows
        one at a time.  On ESTALE it looks the name up again, which then has to
        lead to a new nodeid.
        """
        mode = self._modes.get(nodeid)
        if mode is not None and not mode.handles:
            self._close(backings, nodeid, mode)
            mode = None
        if mode is not None:
            if mode.backing_id and (backing is None or mode.version != backing[1]):
                return None
            mode.handles += 1
            return mode
        if backing is None:
            mode = Mode(0, 0, self._keep)
        else:
            fd, version = backing
            try:
                passthrough = abi.FOPEN_PASSTHROUGH | abi.FOPEN_NOFLUSH
                mode = Mode(backings.register(fd), version, passthrough)
            except OSError as error:
                mode = Mode(0, version, self._keep if error.errno in _NEVER else 0)
        self._modes[nodeid] = mode
        return mode

    def _share(self, nodeid: int) -> Mode | None:
        """Return the mode of `nodeid` with one reader more, None where it has to be opened."""
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
        fh = abi.RELEASE_IN.unpack_from(request.args, request.at)[0]
        backings = self.backings
        if backings is None:
            self._fs.release(fh)
            return 0
        with self._lock:
            nodeid = request.nodeid
            mode = self._modes[nodeid]
            mode.handles -= 1
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
        return 0

    def _close(self, backings: Backings, nodeid: int, mode: Mode) -> None:
        """Give up the mode of `nodeid`, which no handle needs; the caller holds the lock."""
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
            self._fs.drop_suid(fh)
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
        self._fs.fallocate(fh, mode, offset, length)
        return 0

    def _lseek(self, request: Request) -> int:
        fh, offset, whence, _ = abi.LSEEK_IN.unpack_from(request.args, request.at)
        abi.LSEEK_OUT.pack_into(request.out, request.body, self._fs.lseek(fh, offset, whence))
        return abi.LSEEK_OUT.size

    def _copy(self, request: Request) -> int:
        fh, offset, _, target, target_offset, length, _ = abi.COPY_FILE_RANGE_IN.unpack_from(
            request.args, request.at
        )
        # We may copy less than asked, so nothing has to wait for a long copy.
        return self._fs.copy_range(fh, offset, target, target_offset, min(length, INLINE_COPY))

    def _copy_range(self, request: Request) -> int:
        abi.WRITE_OUT.pack_into(request.out, request.body, self._copy(request), 0)
        return abi.WRITE_OUT.size

    def _copy_range_64(self, request: Request) -> int:
        abi.COPY_FILE_RANGE_OUT.pack_into(request.out, request.body, self._copy(request))
        return abi.COPY_FILE_RANGE_OUT.size
