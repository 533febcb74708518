"""How the kernel has each file open: by passthrough to a real file, or through this process.

The kernel allows an inode one real file at a time, and while a handle uses that, every
further open of the inode has to name the same one (fs/fuse/iomode.c: any other answer to
OPEN is EIO).  A lower file that is read by passthrough can therefore not be written to
through the same inode, so passthrough is for lower files that nobody can write to
meanwhile.  These are:

- every file of a read-only mount;
- ELF files that are opened to be executed, which the kernel denies writing while they
  run, or opened by the dynamic loader, which closes them at once.  Their pages, mapped,
  are in memory once for all mounts of a layer.

An upper file has one real file, and is always passed through to, except while it has suid
or sgid, since only a WRITE request tells whether the writer may keep them; or is append-only,
which the kernel does not know of its FUSE inode: it would let a program map the file for
writing, or clear O_APPEND.

Other programs can open such a program while it runs, and keep it open longer.  Until they
close it there is still one inode, and a change of its data fails with ETXTBSY, as if it still
ran.

With `pass_all` every lower file is passed through to.  A file that is open when it is first
written to becomes two inodes: a program that has it open keeps the lower file, and whatever
opens it later gets the upper one, under a new nodeid.  A file of a frozen upper does the same.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from unionfs.errors import fs_error
from unionfs.light_enum import Enum, auto
from unionfs.light_typing import Protocol
from unionfs.loader import LoaderWatch, StillRunning
from unionfs.types import FMODE_EXEC, Backing, Fh, NodeId
from unionfs.vfs import DirectFilesystem
from unionfs.wire import abi
from unionfs.wire.encode import Encoder
from unionfs.wire.request import Defer, Request

ELF = b"\x7fELF"

# How many lower files stay open and registered after their last handle is closed.
KEPT = 256
# The same for small files, which have no fd until a READ comes.  A commit looks at each.
KEPT_SMALL = 4096

# Seconds that a change of data waits until no handle reads the file by passthrough.  The
# kernel sends a RELEASE only some time after close(2).
PATIENCE = 0.5

# Seconds that an open for writing waits for the same, if it can go on without it.
_SHORT_PATIENCE = 0.05

# How often a thread that has not begun to wait in open(2) is looked at again, and the seconds
# between two looks.
_LOOKS, _LOOK_S = 5000, 0.001

# The kernel's errors for a file that it will never pass through: the file is on a
# FUSE filesystem or on one that is stacked too deep, or we are not root.
_NEVER = (errno.EOPNOTSUPP, errno.ELOOP, errno.EPERM, errno.EINVAL)

_NO_FH = Fh(0)

_PASSTHROUGH = abi.FOPEN_PASSTHROUGH | abi.FOPEN_NOFLUSH


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

    def forget_inode(self, nodeid: NodeId) -> None:
        """Make it ask also for the data of a file, or the listing of a directory."""
        ...


class Use(Enum):
    """What a lower file is opened as."""

    DATA = auto()
    PROGRAM = auto()  # as data, but it is an ELF file
    RUN = auto()  # it is an ELF file to be executed, or loaded


class Mode:
    """How the kernel has an inode open, which is the same for all its handles.

    The kernel reads and writes either the real file itself, by passthrough, or through its page
    cache and this process; `backing_id` is then 0.  `version` is the number of copy_ups after
    which the file had this real file.  `flags` are those of the reply to OPEN.  `handles` counts
    the open handles, and `fh` is the one that all readers of a lower file share, 0 for none.
    `program` says that only an open that executes or loads the file gets passthrough, `small`
    that none does.  If the file has become two inodes, `twin` is the nodeid of the other one, and
    `nameless` says that no name leads to this one any more, not even in the kernel's cache.
    """

    __slots__ = (
        "backing_id",
        "fh",
        "flags",
        "handles",
        "nameless",
        "program",
        "small",
        "twin",
        "version",
    )

    def __init__(
        self,
        version: int,
        flags: int,
        *,
        backing_id: int = 0,
        program: bool = False,
        small: bool = False,
    ) -> None:
        self.backing_id = backing_id
        self.version = version
        self.flags = flags
        self.program = program
        self.small = small
        self.handles = 1
        self.fh = _NO_FH
        self.twin: NodeId | None = None
        self.nameless = False


class Modes:
    """The modes of all inodes that are open, and of some that were.

    `backings` is None if the kernel sends every read and write to this process.
    `keep` are the flags of the reply to an OPEN that lets the kernel keep the pages it has.
    It keeps them from one open to the next only if no write by passthrough can have changed
    the file behind them.

    A lower file stays open after its last handle is closed.  Its next reader gets the same
    handle, without a system call.  The small ones of these are `kept_small`, by nodeid.

    `lock` is held whenever a mode changes, or a change of data begins or ends.
    """

    def __init__(
        self,
        fs: DirectFilesystem,
        encoder: Encoder,
        cache: Cache | None,
        *,
        keep: int,
        pass_all: bool,
    ) -> None:
        self._fs = fs
        self._cache = cache
        self._encoder = encoder
        self._keep = keep
        self._pass_all = pass_all
        self.backings: Backings | None = None
        self._loaders = LoaderWatch()
        self.lock = threading.Lock()
        self._closed = threading.Condition(self.lock)
        self._waiting = 0  # how many threads wait for `_closed`
        self._modes: dict[NodeId, Mode] = {}
        # The modes without a handle, the one that was closed last at the end.
        self._kept: dict[NodeId, Mode] = {}
        self.kept_small: dict[NodeId, Mode] = {}
        self._changes: dict[NodeId, int] = {}  # how many changes of data are under way

    # -- changes of data --

    def begin_change(self, nodeid: NodeId, wait: bool) -> None:
        """Let no open of the lower file `nodeid` get passthrough until `end_change`.

        Handles that read it by passthrough have to be closed: raises ETXTBSY if they stay
        open, or `Defer` to wait for them.  The caller begins before it opens the file for
        writing, or truncates it, and ends when that is done.
        """
        with self.lock:
            if self._blocks_change(nodeid):
                if not wait:
                    raise Defer
                self._wait_for_readers(nodeid)
            mode = self._modes.get(nodeid)
            if mode is not None and not mode.handles:
                self._close(nodeid, mode)
            self._changes[nodeid] = self._changes.get(nodeid, 0) + 1

    def end_change(self, nodeid: NodeId) -> None:
        """End what `begin_change` began."""
        with self.lock:
            changes = self._changes.pop(nodeid) - 1
            if changes:
                self._changes[nodeid] = changes

    def is_changing_locked(self, nodeid: NodeId) -> bool:
        """Tell whether a change of the data of `nodeid` is under way; the caller holds the lock."""
        return nodeid in self._changes

    def _blocks_change(self, nodeid: NodeId) -> bool:
        """Tell whether the kernel passes through to a real file that a change of data replaces."""
        mode = self._modes.get(nodeid)
        if mode is None or not mode.handles or not mode.backing_id:
            return False
        return not self._fs.will_stay(nodeid, mode.version)

    def _wait_for_readers(self, nodeid: NodeId) -> None:
        mode = self._modes[nodeid]
        if mode.nameless:
            raise fs_error(errno.ETXTBSY)
        closed = self._wait_until(lambda: not self._blocks_change(nodeid), PATIENCE)
        if not closed and self._modes[nodeid].program:
            raise fs_error(errno.ETXTBSY)

    # -- open to release --

    def share(self, request: Request, flags: int) -> Mode | None:
        """Count one more reader of an inode and return its mode; None if it must be opened."""
        nodeid = request.nodeid
        mode = self._modes.get(nodeid)
        if mode is None:
            return None
        try:
            runs = mode.program and not mode.handles and self.is_to_run(request, flags)
        except StillRunning:
            return None
        with self.lock:
            mode = self._modes.get(nodeid)
            if mode is None or not mode.fh:
                return None
            if mode.handles and mode.backing_id and mode.program:
                # If it was copied up since, its data is still the same.
                return self._counted(mode) if self._fs.is_of(mode.fh, nodeid) else None
            if not self._fs.is_current(mode.fh, nodeid, mode.version):
                return None
            if not mode.handles:
                if mode.program and runs != bool(mode.backing_id):
                    return None
                if mode.backing_id and nodeid in self._changes:
                    return None
                del (self.kept_small if mode.small else self._kept)[nodeid]
            mode.handles += 1
            return mode

    def begin_small_locked(self, fh: Fh, nodeid: NodeId, version: int) -> Mode | None:
        """Return a mode for a small lower file that was just opened as `fh` and never changed.

        Returns None if it has a mode already: `open` then chooses.  The caller holds the lock.
        """
        if nodeid in self._modes:
            return None
        mode = self._modes[nodeid] = Mode(version, self._keep, small=True)
        mode.fh = fh
        return mode

    def open(
        self, fh: Fh, nodeid: NodeId, flags: int, request: Request, use: Use | None = None
    ) -> Mode | None:
        """Return the mode of `nodeid` and count the handle `fh` in it; on errors release `fh`.

        `use` is what the file is opened as, if that is known.
        If no file ever gets passthrough, only handles that are shared are counted; None for
        one that is not.
        """
        backings = self.backings
        if backings is None:
            return None if flags & os.O_ACCMODE else self._begin_sharing(fh, nodeid)
        fs, writing = self._fs, flags & os.O_ACCMODE
        mode = None
        with self.lock:
            if writing:
                # Before the mode is read, so that a SETATTR that comes later sees the writer.
                self._encoder.add_writer(nodeid, mapped=writing == os.O_RDWR)
            try:
                mode = self._mode_for(backings, fh, nodeid, flags, request, use)
            except StillRunning:
                mode = self._mode_when_waiting(backings, fh, nodeid, flags, request)
            finally:
                if mode is None:
                    fs.release(fh)
                    if writing:
                        self._encoder.remove_writer(nodeid, mapped=writing == os.O_RDWR)
        if mode is None:
            self._split(nodeid)
            raise fs_error(errno.ESTALE)
        return mode

    def _begin_sharing(self, fh: Fh, nodeid: NodeId) -> Mode | None:
        """Let the next readers share `fh`, if it is a handle of a lower file."""
        with self.lock:
            known = self._modes.get(nodeid)
            if known is not None and not known.handles:
                self._close(nodeid, known)
                known = None
            version = self._fs.lasting_version(fh) if known is None else None
            if version is None:
                return None
            mode = Mode(version, self._keep, small=True)
            mode.fh = fh
            self._modes[nodeid] = mode
            return mode

    def _split(self, nodeid: NodeId) -> None:
        """Let the names of `nodeid` lead to a new inode."""
        renewed = self._fs.renew(nodeid)
        if renewed is None:
            return
        with self.lock:
            mode = self._modes.get(nodeid)
            if mode is None:
                return
            mode.twin, mode.nameless = renewed.nodeid, renewed.had_one_name
            # A change of the one changes the other too, and the kernel does not know that.
            for inode in (nodeid, mode.twin):
                self._encoder.add_writer(inode, mapped=True)
        if self._cache is not None:
            self._cache.forget_attributes(nodeid)

    def _mode_when_waiting(
        self, backings: Backings, fh: Fh, nodeid: NodeId, flags: int, request: Request
    ) -> Mode | None:
        """Like `_mode_for`, once the program's thread waits in open(2).

        The lock is not held between two looks at the thread.
        """
        if not request.wait:
            raise Defer
        for _ in range(_LOOKS):
            self._closed.wait(_LOOK_S)
            with suppress(StillRunning):
                return self._mode_for(backings, fh, nodeid, flags, request, None)
        raise fs_error(errno.EBUSY)

    def _mode_for(
        self,
        backings: Backings,
        fh: Fh,
        nodeid: NodeId,
        flags: int,
        request: Request,
        use: Use | None,
    ) -> Mode | None:
        """Return the mode to open `nodeid` in, and count the handle; the caller holds the lock.

        Returns None if the kernel has another real file open for the inode.  The caller then
        answers ESTALE, and the kernel looks the name up again, which must lead to a new
        nodeid.  Raises `Defer` to wait for a disk, and `StillRunning`.
        """
        backing = self._fs.backing(fh)
        mode = self._modes.get(nodeid)
        if mode is None and backing is not None and backing.may_change and not backing.guarded:
            # An upper file that nobody has open.
            mode = self._passing(backings, backing.fd, backing.version, writes=True)
            self._modes[nodeid] = mode
            return mode
        if backing is not None and backing.guarded and flags & os.O_ACCMODE:
            self._wait_a_moment(nodeid, request)
            mode = self._modes.get(nodeid)
        if mode is not None and not mode.handles:
            self._close(nodeid, mode)
            mode = None
        if mode is None:
            if backing is None:
                mode = Mode(self._fs.version(fh), self._keep, small=True)
            else:
                mode = self._first_mode(backings, backing, nodeid, flags, request, use)
            self._modes[nodeid] = mode
            if not flags & os.O_ACCMODE and self._fs.lasting_version(fh) is not None:
                mode.fh = fh
            return mode
        if mode.backing_id and (backing is None or mode.version != backing.version):
            if not (mode.program or mode.nameless):
                return None
            if flags & os.O_ACCMODE:
                raise fs_error(errno.ETXTBSY)
        return self._counted(mode)

    def _wait_a_moment(self, nodeid: NodeId, request: Request) -> None:
        """Wait a moment until no handle has the guarded file open by passthrough.

        A handle that stays was opened before the file was guarded.
        """

        def is_passed_through() -> bool:
            mode = self._modes.get(nodeid)
            return mode is not None and mode.handles > 0 and mode.backing_id > 0

        if is_passed_through():
            if not request.wait:
                raise Defer
            self._wait_until(lambda: not is_passed_through(), _SHORT_PATIENCE)

    def _wait_until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait until `reached`, which a close can bring about; tell whether it is.

        The caller holds the lock.
        """
        self._waiting += 1
        try:
            return self._closed.wait_for(reached, seconds)
        finally:
            self._waiting -= 1

    def _first_mode(
        self,
        backings: Backings,
        backing: Backing,
        nodeid: NodeId,
        flags: int,
        request: Request,
        use: Use | None,
    ) -> Mode:
        """Return the mode for an inode that the kernel does not have open."""
        passes, program = not backing.guarded, False
        if passes and not backing.may_change and not backing.fixed:
            if not self._pass_all:
                use = use or self._use_of(backing, flags, request)
                program, passes = use is not Use.DATA, use is Use.RUN
            if nodeid in self._changes:
                passes = False
        if not passes:
            kept = self._keep if backing.pristine else abi.FOPEN_NOFLUSH
            return Mode(backing.version, kept, program=program)
        mode = self._passing(backings, backing.fd, backing.version, writes=backing.may_change)
        mode.program = program and mode.backing_id > 0
        return mode

    def _passing(self, backings: Backings, fd: int, version: int, *, writes: bool) -> Mode:
        """Return the mode for passthrough to `fd`, or, if the kernel refuses that, without."""
        try:
            backing_id = backings.register(fd, writes=writes)
        except OSError as error:
            return Mode(version, self._keep if error.errno in _NEVER else 0)
        return Mode(version, _PASSTHROUGH, backing_id=backing_id)

    def _counted(self, mode: Mode) -> Mode:
        """Count one more handle."""
        mode.handles += 1
        return mode

    def always_passes(self, backing: Backing) -> bool:
        """Tell whether a file that is not guarded gets passthrough, whatever its content is."""
        return self._pass_all or backing.may_change or backing.fixed

    def is_to_run(self, request: Request, flags: int) -> bool:
        """Tell whether an OPEN with `flags` is to execute a program, or to load a library.

        Raises `StillRunning`.
        """
        if flags & FMODE_EXEC:
            self._loaders.executes(request.pid)
            return True
        return self._loaders.is_loading(request.pid)

    def _use_of(self, backing: Backing, flags: int, request: Request) -> Use:
        """Return what an OPEN opens a lower file as; raises `Defer` and `StillRunning`."""
        if not self._is_elf(backing, request.wait):
            return Use.DATA
        return Use.RUN if self.is_to_run(request, flags) else Use.PROGRAM

    def _is_elf(self, backing: Backing, wait: bool) -> bool:
        """Tell whether a file is an ELF file; raises `Defer` to wait for a disk."""
        start = bytearray(len(ELF))
        try:
            os.preadv(backing.fd, [start], 0, 0 if wait else os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise Defer from None
            return False
        return start == ELF

    def release(self, nodeid: NodeId, fh: Fh, flags: int) -> None:
        """Close a handle that was opened with `flags`."""
        if self.backings is None:
            counted = self._modes.get(nodeid)
            if counted is None or counted.fh != fh:
                self._fs.release(fh)
                return
        with self.lock:
            mode = self._modes[nodeid]
            mode.handles -= 1
            if flags & os.O_ACCMODE:
                mapped = flags & os.O_ACCMODE == os.O_RDWR
                self._encoder.remove_writer(nodeid, mapped=mapped)
            shared = fh == mode.fh
            if not mode.handles:
                if mode.fh and mode.twin is None:
                    kept, most = self._kept, KEPT
                    if mode.small:
                        kept, most = self.kept_small, KEPT_SMALL
                    kept[nodeid] = mode
                    if len(kept) > most:
                        oldest = next(iter(kept))
                        self._close(oldest, kept[oldest])
                else:
                    self._close(nodeid, mode)
                if self._waiting and mode.backing_id:
                    self._closed.notify_all()
        if not shared:
            self._fs.release(fh)

    def forget(self, nodeid: NodeId) -> None:
        """Close the small file `nodeid`, if it is kept open."""
        with self.lock:
            mode = self.kept_small.get(nodeid)
            if mode is not None:
                self._close(nodeid, mode)

    def _close(self, nodeid: NodeId, mode: Mode) -> None:
        """Remove the mode of `nodeid`, which no handle needs; the caller holds the lock."""
        del self._modes[nodeid]
        if mode.backing_id and self.backings is not None:
            self.backings.close(mode.backing_id)
        if mode.twin is not None:
            for inode in (nodeid, mode.twin):
                self._encoder.remove_writer(inode, mapped=True)
        if mode.fh:
            (self.kept_small if mode.small else self._kept).pop(nodeid, None)
            self._fs.release(mode.fh)
