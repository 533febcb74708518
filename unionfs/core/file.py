"""Open files: their handles, and what happens to them when the file is copied up.

Decided here and only here: with which flags the real file is opened, and when a
handle that was opened on a lower file changes to the copy in the upper, so that every
reader sees what was written, as in a plain directory.

Source: open(2); overlayfs.rst "Non-standard behavior", which this avoids.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Iterator
from time import perf_counter_ns

from unionfs.core.copy_up import (
    copy_up_file,
    is_cut_short,
    is_slow_copy,
    source_bytes,
)
from unionfs.core.file_marks import refuse_lost_data
from unionfs.core.inode import File, Node, in_upper
from unionfs.core.layer import Fd, Kept
from unionfs.core.owner_rights import modes_settled
from unionfs.core.real_file import open_node, stat_node
from unionfs.core.state import State
from unionfs.credentials import Credentials
from unionfs.errors import fs_error
from unionfs.light_typing import cast
from unionfs.syscalls.attributes import chmod
from unionfs.syscalls.lowered import keeping_suid
from unionfs.syscalls.statx import APPEND_ONLY, mode_and_marks
from unionfs.types import FMODE_EXEC, Fh

# The kernel handles these flags itself: it sends CREATE and SETATTR for creation and
# truncation, the right offsets for O_APPEND and an FSYNC for O_SYNC, and bypasses its
# cache for O_DIRECT.  With O_NOATIME open(2) would check the ownership again.
_KERNELS = (
    os.O_CREAT
    | os.O_EXCL
    | os.O_TRUNC
    | os.O_NOCTTY
    | os.O_APPEND
    | os.O_DIRECT
    | os.O_SYNC
    | os.O_DSYNC
    | os.O_NOATIME
    | os.O_NONBLOCK
    | os.O_ASYNC
)
_WRITES = (os.O_WRONLY, os.O_RDWR)
SUID_SGID = stat.S_ISUID | stat.S_ISGID

# Another file may have the name by now, and a fifo must not block.
_READS = os.O_NOATIME | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

# A thread that should not wait for a disk does so all the same for so many bytes, if that takes
# less on average: to hand the request over to another thread takes a tenth of a millisecond,
# and more on a busy machine.  A single wait counts for at most `_MOST_NS`.
_QUICK_BYTES = 64 << 10
_QUICK_NS, _MOST_NS = 1_000_000, 2_000_000
_MEMORY_NS = 40_000  # what was in memory is read in less, and mostly in a tenth of it


class Handle:
    """One open file.

    `fd` is None until a program reads data that the kernel does not have in its cache.
    `changed` is the value of `node.changed` when `fd` was opened.  `plain` says that this
    open created the file, without suid and sgid.  `kept` is set by a freeze (`core.kept_open`).
    """

    __slots__ = ("changed", "fd", "flags", "kept", "node", "plain", "writable")

    kept: Kept

    def __init__(self, node: File, fd: Fd | None, flags: int) -> None:
        self.node = node
        self.fd = fd
        self.flags = flags
        self.writable = flags & os.O_ACCMODE in _WRITES
        self.changed = node.changed
        self.plain = False


class OpenFiles:
    """The open files of a union: their handles, by fh.

    There may be more handles than fds: when there are many, the fds of those that can get
    another one are closed.
    """

    def __init__(self, state: State) -> None:
        self.by_fh: dict[Fh, Handle] = {}
        self._immutable = state.layers_immutable
        self._note_open = state.table.note_open
        self._next_fh = cast("Iterator[Fh]", itertools.count(1))
        # How many handles may be open before fds are closed; see `close_idle`.
        self._room = self._least_room = max(64, state.fds.capacity // 2)

    def new_fh(self) -> Fh:
        """Return an fh that was never used."""
        return next(self._next_fh)

    def add(self, handle: Handle) -> Fh:
        """Add a handle; return its fh."""
        self._note_open(handle.node, handle)
        return self.add_counted(handle)

    def add_counted(self, handle: Handle) -> Fh:
        """Like `add`, for a handle that its inode counts already."""
        fh, by_fh = next(self._next_fh), self.by_fh
        by_fh[fh] = handle
        if len(by_fh) > self._room:
            self.close_idle()
            self._room = len(by_fh) + self._least_room // 2
        return fh

    def require(self, fh: Fh) -> Handle:
        """Return the handle of `fh`; EBADF if there is none."""
        handle = self.by_fh.get(fh)
        if handle is None:
            raise fs_error(errno.EBADF)
        return handle

    def remove(self, fh: Fh) -> Handle | None:
        """Remove the handle of `fh`; return it, None if there is none."""
        by_fh = self.by_fh
        if self._room > self._least_room:
            self._room = max(self._least_room, len(by_fh) - 1)
        return by_fh.pop(fh, None)

    def all(self) -> list[Handle]:
        """Return the handles that are open now."""
        return list(self.by_fh.values())

    def is_running(self, node: File) -> bool:
        """Tell whether a program runs that is the file `node`."""
        return any(handle.node is node and handle.flags & FMODE_EXEC for handle in self.all())

    def is_written(self, node: Node) -> bool:
        """Tell whether `node` is open for writing."""
        return any(handle.node is node and handle.writable for handle in self.all())

    def close_idle(self) -> bool:
        """Close the fds behind handles that can get another one; tell whether there were any.

        A file is opened again by its name when a request reads or writes it.
        """
        if not self._immutable:
            return False
        closed = False
        for handle in self.all():
            if handle.fd is not None and handle.fd is not handle.node.orphan:
                handle.fd = None
                closed = True
        return closed


def real_flags(flags: int) -> int:
    """Return the flags for the real file when a program in the mount calls open(2) with `flags`."""
    return flags & ~_KERNELS


def open_file(state: State, node: File, flags: int) -> Handle:
    """Open `node` as open(2) with `flags`, after a copy_up if they allow writing."""
    writes = flags & os.O_ACCMODE in _WRITES or flags & os.O_TRUNC
    copied = None
    if writes or is_cut_short(state, node):
        state.require_upper()
        grows = flags & os.O_APPEND and not flags & os.O_TRUNC
        copied = copy_up_file(
            state,
            node,
            size=0 if flags & os.O_TRUNC else None,
            allowed=APPEND_ONLY if grows else 0,
        )
    elif node.is_small() and state.reads_all and not in_upper(node):
        # Mostly the kernel has the data in its cache and never sends a READ.
        return Handle(node, None, flags)
    changed = node.changed
    if copied is None or flags & os.O_ACCMODE not in _WRITES or state.spares_upper_atime:
        fd = _open_as_allowed(state, node, flags)
    else:
        fd = copied
    if flags & os.O_TRUNC:
        to_empty = fd if flags & os.O_ACCMODE in _WRITES else reopen(state, node, os.O_WRONLY)
        with keeping_suid(to_empty):
            os.ftruncate(to_empty, 0)
    handle = Handle(node, fd, flags)
    handle.changed = changed
    return handle


def drop_suid(state: State, fd: int, writer: Credentials) -> bool:
    """Take suid and sgid from a file, as write(2) by `writer` without CAP_FSETID does.

    Returns whether the mode changed.  If the group may not execute the file, sgid is
    removed only if `writer` is not a member of that group.

    Source: fs/attr.c:setattr_should_drop_suidgid().
    """
    if not has_suid(fd):
        return False
    with modes_settled():
        st = os.fstat(fd)
        lost = st.st_mode & (stat.S_ISUID | stat.S_ISGID)
        if not stat.S_ISREG(st.st_mode):
            return False
        for_locks = lost & stat.S_ISGID and not st.st_mode & stat.S_IXGRP
        if for_locks and writer.is_member(state.owners.shown_gid(st.st_gid)):
            lost &= ~stat.S_ISGID
        if lost:
            chmod(fd, stat.S_IMODE(st.st_mode & ~lost))
        return bool(lost)


def has_suid(fd: int) -> bool:
    """Tell whether an open file has suid or sgid, which a write may have to take away."""
    return bool(os.fstat(fd).st_mode & (stat.S_ISUID | stat.S_ISGID))


def is_guarded(fd: int) -> bool:
    """Tell whether writes to an open file must be looked at: suid, sgid or append-only."""
    mode, marks = mode_and_marks(fd)
    return bool(mode & (stat.S_ISUID | stat.S_ISGID) or marks & APPEND_ONLY)


def only_appends(fd: int) -> bool:
    """Tell whether `fd`, the real file of a handle, is of an append-only file."""
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)


def _open_as_allowed(state: State, node: File, flags: int) -> Fd:
    """Open the real file for a program that has opened the file with `flags`.

    An append-only file (chattr +a) can be opened for writing only with O_APPEND.  No other
    real file is opened with it.
    """
    try:
        return reopen(state, node, real_flags(flags))
    except PermissionError:
        if not flags & os.O_APPEND:
            raise
        return reopen(state, node, real_flags(flags) | os.O_APPEND)


def reopen(state: State, node: File, flags: int) -> Fd:
    """Open the real file behind `node`; reading a lower one does not change its atime.

    A program of mode 0111 in the upper is opened although its owner may not read it.
    """
    if node.kind != stat.S_IFREG:
        raise fs_error(errno.ENXIO)
    if not in_upper(node) or node.data is not None or state.spares_upper_atime:
        try:
            return open_node(state, node, flags | os.O_NOATIME)
        except PermissionError:
            # Only the owner, or root, may ask for O_NOATIME.
            return _open_widening(state, node, flags)
    return _open_widening(state, node, flags)


def _open_widening(state: State, node: File, flags: int) -> Fd:
    try:
        return open_node(state, node, flags)
    except PermissionError:
        if not in_upper(node) or node.orphan is not None:
            raise
    return open_node(state, node, flags, widen=True)


def slow_open(state: State, node: File, flags: int) -> bool:
    """Tell whether `open_file` would copy much data, or wait for a disk."""
    if flags & os.O_ACCMODE not in _WRITES or flags & os.O_TRUNC:
        return False
    if node.kind != stat.S_IFREG or (in_upper(node) and node.data is None):
        return False
    return is_slow_copy(state, node, source_bytes(node))


def current_fd(state: State, handle: Handle) -> Fd:
    """Return the fd to use for `handle`: the upper file's if the file was copied up."""
    node, fd = handle.node, handle.fd
    if fd is None or handle.changed != node.changed:
        changed = node.changed
        fd = handle.fd = _open_as_allowed(state, node, handle.flags)
        handle.changed = changed
    return fd


def read_into(
    state: State,
    fd: Fd,
    buffer: bytearray | memoryview,
    offset: int,
    *,
    wait: bool,
    enough: int = -1,
    asks: bool = True,
) -> int | None:
    """Fill `buffer` from `offset`; return the bytes read, fewer only at the end of the file.

    Without `wait` it returns None if it would wait for a disk, unless that has been quick.
    A caller that knows that the file ends after `enough` bytes saves a system call, and so does
    one that `asks` not, since the filesystem cannot say whether it would wait.
    """
    short = len(buffer) <= _QUICK_BYTES
    if not wait:
        quick = short and state.read_ns <= _QUICK_NS
        # After a file from the disk the next one mostly comes from there, too.
        if asks and not (quick and state.reads_disk):
            try:
                done = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
            except OSError as error:
                # The filesystem may not know the flag, as tmpfs.
                if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                    raise
            else:
                if done in (len(buffer), enough) or offset + done >= os.fstat(fd).st_size:
                    return done
        if not quick:
            return None
    began = perf_counter_ns()
    with state.gate.outside():
        done = os.preadv(fd, [buffer], offset)
    if short:
        lately = perf_counter_ns() - began
        state.reads_disk = from_disk = lately > _MEMORY_NS
        if wait or from_disk:
            state.read_ns += (min(lately, _MOST_NS) - state.read_ns) // 8
    return done


def found_content(
    state: State, node: File, size: int, fd: Fd | None, *, wait: bool
) -> bytearray | None:
    """Return the `size` bytes of `node`, a file that is as it was found in a lower.

    `fd` is that of the real file, if it is open.  Returns None if the bytes cannot be read; raises
    `BlockingIOError` if `read_into` returns None.
    """
    ahead = state.files_ahead
    if ahead is not None and node.parent in ahead.directories:
        ahead.follow(node)
        ahead = None
    elif fd is None and not wait and not state.reads_disk:
        data = _content_in_memory(state, node, size)
        if data is not None:
            return data
    buffer = bytearray(size + 1)
    try:
        if fd is None:
            fd = reopen(state, node, os.O_RDONLY)
        asks = node.real.layer.reads_now
        done = read_into(state, fd, buffer, 0, wait=wait, enough=size, asks=asks)
    except OSError:
        return None  # a READ will report the error
    if ahead is not None and (done is None or state.reads_disk):
        ahead.follow(node)
    if done is None:
        raise fs_error(errno.EAGAIN)
    if done != size:
        return None
    del buffer[size:]
    return buffer


def _content_in_memory(state: State, node: File, size: int) -> bytearray | None:
    """Return what `found_content` does of most files; None if it takes more than that.

    These are in memory, on a filesystem that can say so.
    """
    layer = node.real.layer
    if not layer.reads_now:
        return None
    try:
        fd = os.open(node.rname, _READS, dir_fd=node.real.fd())
    except OSError:
        return None
    try:
        st = os.fstat(fd)
        if (st.st_ino, st.st_size) != (node.rino, size) or stat.S_IFMT(st.st_mode) != node.kind:
            return None
        buffer = bytearray(size)
        if os.preadv(fd, [buffer], 0, os.RWF_NOWAIT) != size:
            return None
        if not buffer[0]:  # nothing of a hole is anything else
            refuse_lost_data(state, node, fd, st)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # as tmpfs
            layer.reads_now = False
        return None
    finally:
        os.close(fd)
    return buffer


def open_fd(node: File) -> Fd | None:
    """Return the fd of the latest handle of `node`, None if it is not of the present real file."""
    handle = node.handle
    if handle is None or handle.changed != node.changed or node.data is not None:
        return None
    return handle.fd


def stat_handle(state: State, handle: Handle) -> os.stat_result:
    """Return the real attributes of an open file."""
    if handle.node.data is not None or handle.fd is None:
        return stat_node(state, handle.node)
    return os.stat(current_fd(state, handle))
