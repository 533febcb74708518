"""Layers, and the real directories in them, reached component by component.

Decided here and only here: how a path inside a layer becomes an open
directory.  Each component is opened beneath its parent's fd with O_NOFOLLOW,
so that no link in a layer leads out of it.

Threading: an `Fd` closes itself when nothing refers to it any more, so a caller
that keeps it in a local variable may use it even if the cache drops it meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from unionfs.core.owner_rights import as_owner
from unionfs.errors import fs_error
from unionfs.light_logging import Logger

log = Logger(__name__)

_OPEN_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

# What open(2) fails with when this process or the machine has too many files open.
OUT_OF_FDS = (errno.EMFILE, errno.ENFILE)

_SWEEP = 64  # how many directories to open before looking for forgotten ones in the cache
_ROOM = 32  # how many directories to close when no more files can be opened


# The errors for a name that was removed or replaced from outside the union.
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


class Fd(int):
    """An open file descriptor that closes itself with its last reference."""

    __slots__ = ()

    def __del__(self, close=os.close) -> None:  # type: ignore[no-untyped-def]
        # Bound at definition: at interpreter exit the module may be gone first.
        close(self)


class Kept:
    """An fd that is closed when nothing refers to this any more."""

    __slots__ = ("__weakref__", "fd")

    def __init__(self, fd: Fd) -> None:
        self.fd = fd


class Layer:
    """One directory of the stack.

    `number` counts from 0 for the topmost lower; the upper has -1 and `is_upper`.
    `dev` and `ino` are its st_dev and st_ino.
    `fsid` is the number of its filesystem in the union.  `bottom` says that no layer is
    beneath.  `reflinks` becomes False when the filesystem refuses one.  `ordered` says of
    an upper that its filesystem writes data before the metadata that refers to it, and
    `journalled` that it writes changes of metadata in the order in which they were made.
    `settled` says that the whole layer is on disk, so an fsync has nothing to do.
    `remote` says that another machine or process answers for the filesystem, so a call
    into it may never return.  `fs_type` is the magic number of the filesystem, and
    `has_handles` says that its file handles may tell inodes apart, also after another mount.
    `idmapped` says that the mount of a lower shows other ids than the filesystem stores.
    `reads_now` becomes False when the filesystem refuses to read without waiting for a disk.
    """

    __slots__ = (
        "bottom",
        "dev",
        "fds",
        "fs_type",
        "fsid",
        "has_handles",
        "idmapped",
        "ino",
        "is_upper",
        "journalled",
        "number",
        "ordered",
        "path",
        "reads_now",
        "reflinks",
        "remote",
        "root",
        "settled",
        "uuid",
    )

    def __init__(
        self, path: bytes, fd: Fd, number: int, dev: int, fsid: int, uuid: bytes, fds: FdCache
    ) -> None:
        self.path = path
        self.number = number
        self.is_upper = number < 0
        self.dev = dev
        self.fsid = fsid
        self.uuid = uuid
        self.bottom = False
        self.reflinks = True
        self.reads_now = True
        self.remote = False
        self.fs_type = 0
        self.has_handles = True
        self.idmapped = False
        self.ordered = False
        self.journalled = False
        self.settled = number >= 0
        self.fds = fds
        self.ino = 0
        self.root = RealDir(self, None, b"")
        self.root.pin(fd)


class RealDir:
    """A directory of one layer, known by its name in its parent directory.

    `xwhiteouts` says that it is marked opaque=x.  `impure` says that its entries may be
    copies from a layer beneath, which show the st_ino of their origin.  `listed` are the names
    of its attributes, None if they are not known or may change.  `kept` has the fds of files
    in it that are open, by name, to which a name does not lead (`core.kept_open`).
    """

    __slots__ = (
        "__weakref__",
        "_fd",
        "impure",
        "kept",
        "layer",
        "listed",
        "name",
        "parent",
        "pinned",
        "xwhiteouts",
    )

    def __init__(self, layer: Layer, parent: RealDir | None, name: bytes) -> None:
        self.layer = layer
        self.parent = parent
        self.name = name
        self.xwhiteouts = False
        self.impure = False
        self.pinned = False
        self.listed: tuple[str, ...] | None = None
        self.kept: weakref.WeakValueDictionary[bytes, Kept] | None = None
        self._fd: Fd | None = None

    def kept_fd(self, name: bytes) -> Fd | None:
        """Return the fd that is kept for the file `name`, None if there is none."""
        kept = None if self.kept is None else self.kept.get(name)
        return None if kept is None else kept.fd

    def fd(self) -> Fd:
        """Return an fd of this directory, to keep in a local variable while it is used.

        Raises ESTALE if the layer no longer has a directory there.
        """
        fd = self._fd
        if fd is not None:
            return fd
        return self.layer.fds.open(self)

    def fd_to_list(self) -> Fd:
        """Like `fd`, for a directory whose fd may not be needed again: see `keep`."""
        fd = self._fd
        if fd is not None:
            return fd
        return self.layer.fds.open_unkept(self)

    def keep(self, fd: Fd) -> None:
        """Keep `fd`, from `fd_to_list`, for the next caller of `fd`."""
        if self._fd is None:
            self.layer.fds.keep(self, fd)

    def pin(self, fd: Fd) -> None:
        """Keep `fd` for ever: the directory has no name, or is about to lose it."""
        self.pinned = True
        self._fd = fd

    def unpin(self) -> None:
        """Drop the pinned fd, because the directory is no longer needed."""
        self.pinned = False
        self._fd = None

    def path(self) -> bytes:
        """Return the path from the layer's root, b"" for the root itself."""
        parts: list[bytes] = []
        at: RealDir | None = self
        while at is not None and at.parent is not None:
            parts.append(at.name)
            at = at.parent
        return b"/".join(reversed(parts))

    def full_path(self) -> bytes:
        """Return the path on the host."""
        return b"/".join(part for part in (self.layer.path, self.path()) if part)


class FdCache:
    """The open fds of real directories; the one opened first is dropped first.

    The cache keeps no `RealDir` alive: when the union drops one, its fd is closed.

    `lock` also guards the `parent` and `name` of upper directories, so that a
    directory is never opened by a name it has just lost.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity  # 1 at least
        self.lock = threading.RLock()
        self.relief: Callable[[], bool] = bool  # closes other files; tells whether it did
        self._open: deque[weakref.ref[RealDir]] = deque()
        self._sweep_at = _SWEEP

    def __len__(self) -> int:
        with self.lock:
            return sum(ref() is not None for ref in self._open)

    def open_unkept(self, real: RealDir) -> Fd:
        """Like `open`, but keep only the fds of the directories above `real`."""
        layer, parent = real.layer, real.parent
        if (layer.remote and not layer.is_upper) or parent is None:
            return self.open(real)
        with self.lock:
            fd = parent._fd
            return self._open_next(real, self.open(parent) if fd is None else fd)

    def keep(self, real: RealDir, fd: Fd) -> None:
        """Keep `fd`, which `open_unkept` returned for `real`."""
        with self.lock:
            if real._fd is None:
                self._keep(real, fd)

    def open(self, real: RealDir) -> Fd:
        """Open `real`, and each directory between it and the nearest open one above."""
        layer = real.layer
        if layer.remote and not layer.is_upper:
            return self._open_apart(real)
        with self.lock:
            missing: list[RealDir] = []
            at: RealDir | None = real
            while at is not None and at._fd is None:
                missing.append(at)
                at = at.parent
            if at is None or at._fd is None:
                raise fs_error(errno.ESTALE)
            fd = at._fd
            for below in reversed(missing):
                fd = self._open_next(below, fd)
                self._keep(below, fd)
            return fd

    def _open_apart(self, real: RealDir) -> Fd:
        """Like `open`, for a filesystem that may not answer: it is called without `lock`.

        That is safe because no directory of a lower is renamed.
        """
        missing: list[RealDir] = []
        at, fd = real, real._fd
        while fd is None:
            missing.append(at)
            if at.parent is None:
                raise fs_error(errno.ESTALE)
            at = at.parent
            fd = at._fd
        for below in reversed(missing):
            fd = self._open_next(below, fd)
            with self.lock:
                if below._fd is None:
                    self._keep(below, fd)
        return fd

    def _open_next(self, below: RealDir, fd: Fd) -> Fd:
        """Open `below` in its parent `fd`; raises OSError, ESTALE if it is gone."""
        while True:
            try:
                return _open_part(below, fd)
            except OSError as error:
                if error.errno in GONE:
                    log.warning("the layer directory %r is gone", below.full_path())
                    raise fs_error(errno.ESTALE) from error
                # What another thread is using stays open a little longer.
                if error.errno not in OUT_OF_FDS or not (self.relief() or self.make_room()):
                    raise

    def _keep(self, real: RealDir, fd: Fd) -> None:
        """Store `fd` as that of `real`; the caller holds `lock`."""
        real._fd = fd
        self._open.append(weakref.ref(real))
        # After each step of a path: it may have more directories than may be open.
        while len(self._open) > self.capacity:
            # The one just opened is last, and stays.
            self._close_oldest()
        if len(self._open) > self._sweep_at:
            self._open = deque(ref for ref in self._open if ref() is not None)
            self._sweep_at = max(_SWEEP, 2 * len(self._open))

    def _close_oldest(self) -> bool:
        """Close the fd that was opened first; tell whether there was one to close."""
        oldest = self._open.popleft()()
        if oldest is None or oldest.pinned or oldest._fd is None:
            return False
        oldest._fd = None
        return True

    def make_room(self) -> bool:
        """Close some of the fds so that other files can be opened; tell whether any was."""
        with self.lock:
            closed = 0
            while self._open and closed < _ROOM:
                closed += self._close_oldest()
            return closed > 0

    def close_unpinned(self) -> None:
        """Drop every fd in the cache, except those that are pinned."""
        with self.lock:
            while self._open:
                self._close_oldest()

    def close(self) -> None:
        """Drop every fd in the cache."""
        with self.lock:
            for ref in self._open:
                real = ref()
                if real is not None:
                    real.unpin()
            self._open.clear()

    def rename(self, real: RealDir, parent: RealDir, name: bytes) -> None:
        """Note that `real` is now `name` in `parent`; the caller holds `lock`."""
        real.parent = parent
        real.name = name


def open_dir(name: bytes, dir_fd: int | None = None, flags: int = os.O_NOFOLLOW) -> Fd:
    """Return an fd of the directory `name`; listing it keeps its atime, if we have the right."""
    flags |= os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return Fd(os.open(name, flags | os.O_NOATIME, dir_fd=dir_fd))
    except PermissionError:
        # Only the owner, or root, may ask for O_NOATIME.
        return Fd(os.open(name, flags, dir_fd=dir_fd))


def _open_part(real: RealDir, dir_fd: int) -> Fd:
    """Return an fd of the directory `real` in its parent `dir_fd`.

    If its mode keeps us from listing it, one of the upper is opened as by its owner, and one of
    a lower, whose mode must not change, with O_PATH: such an fd cannot be listed.
    """
    name = real.name
    try:
        return open_dir(name, dir_fd)
    except PermissionError:
        if real.layer.is_upper:
            with suppress(PermissionError):
                return as_owner(lambda: open_dir(name, dir_fd), (dir_fd, None), (dir_fd, name))
        return Fd(os.open(name, _OPEN_PATH | os.O_DIRECTORY, dir_fd=dir_fd))


def lstat_at(dir_fd: int, name: bytes) -> os.stat_result:
    """Return the stat of `name` in a directory, of a link itself."""
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)


def open_path(name: bytes, dir_fd: int) -> Fd:
    """Return an O_PATH fd of `name`, whatever it is."""
    return Fd(os.open(name, _OPEN_PATH, dir_fd=dir_fd))


def open_regular(name: bytes, dir_fd: int, flags: int = os.O_RDONLY) -> Fd:
    """Return an fd of the regular file `name` of a layer.

    Raises ESTALE if `name` is anything else, put there from outside the union.  The open
    does not block, even if it is a fifo or a device.
    """
    return _open_regular(name, dir_fd, flags)[0]


def _open_regular(name: bytes, dir_fd: int, flags: int) -> tuple[Fd, os.stat_result]:
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    fd = Fd(os.open(name, flags, dir_fd=dir_fd))
    st = os.fstat(fd)
    if not stat.S_ISREG(st.st_mode):
        raise fs_error(errno.ESTALE)
    return fd, st


def open_untouched(name: bytes, dir_fd: int) -> tuple[Fd, os.stat_result]:
    """Like `open_regular`, with the attributes of the file.

    Reading from the fd keeps the atime, if we have the right.
    """
    try:
        return _open_regular(name, dir_fd, os.O_RDONLY | os.O_NOATIME)
    except PermissionError:
        # Only the owner, or root, may ask for O_NOATIME.
        return _open_regular(name, dir_fd, os.O_RDONLY)
