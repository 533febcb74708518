"""Find the real file or directory of an inode while other threads rename it.

It is found by a name in a real directory.  Another thread may rename
it, or give its name to another file, after this thread has read the place and before it
uses it.  So the inode number found is compared with the one expected.  If they differ, we
wait for the lock of the directory and read the place again.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from functools import partial

from unionfs.core.file_marks import refuse_lost_data
from unionfs.core.inode import Dir, File, Node, in_upper
from unionfs.core.layer import OUT_OF_FDS, Fd, RealDir, open_path, open_regular
from unionfs.core.owner_rights import as_owner, upper_stat
from unionfs.core.state import State
from unionfs.errors import fs_error
from unionfs.syscalls.statx import statx
from unionfs.types import NS, Renewed, changed_stat

TRIES = 8


def stat_node(state: State, node: Node) -> os.stat_result:
    """Return the real attributes of `node`: those in the upper, if it is there."""
    if type(node) is Dir:
        try:
            return os.stat((node.upper or node.lowers[0]).fd())
        except OSError:
            if node.last_stat is not None:
                return node.last_stat
            raise
    assert type(node) is File
    for _ in range(TRIES):
        orphan = node.orphan
        if orphan is not None:
            return os.stat(orphan)
        real, rname = node.real, node.rname
        try:
            st = os.stat(rname, dir_fd=real.fd(), follow_symlinks=False)
        except FileNotFoundError:
            st = None
        except PermissionError:
            kept = real.kept_fd(rname)
            if kept is not None:
                return os.stat(kept)
            if not in_upper(node):
                raise
            st = upper_stat(real.fd(), rname)
        if st is not None and st.st_ino == node.rino and stat.S_IFMT(st.st_mode) == node.kind:
            return st
        last = node.last_stat
        if last is not None:
            return last
        wait_for(node)
    raise fs_error(errno.ESTALE)


def open_node(
    state: State, node: File, flags: int, *, metacopy: bool = False, widen: bool = False
) -> Fd:
    """Open the real file behind `node` with `flags`.

    For a metacopy this is the file that has its data, or with `metacopy` the metacopy
    itself.  With `widen` it is opened even if its mode keeps its owner out.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    failed = errno.ESTALE
    for _ in range(TRIES):
        orphan, data = node.orphan, node.data
        if data is not None and not metacopy:
            again = partial(open_regular, flags=flags)
            return state.with_room(again, data.name, data.real.fd())
        if orphan is not None:
            opener = _open_again_widened if widen else _open_again
            return state.with_room(partial(opener, flags & ~os.O_NOFOLLOW), b"", orphan)
        real, rname = node.real, node.rname
        try:
            # The name may be that of a fifo by now, whose open must not block.
            careful = flags | os.O_NONBLOCK | os.O_NOCTTY
            if widen:
                fd = _open_widened(real.fd(), rname, careful)
            else:
                fd = Fd(os.open(rname, careful, dir_fd=real.fd()))
        except OSError as error:
            if error.errno in OUT_OF_FDS and state.make_room():
                failed = error.errno
                continue
            kept = real.kept_fd(rname)
            if kept is not None and not flags & os.O_ACCMODE:
                return kept
            if _is_there(node, real, rname):
                raise
        else:
            st = os.fstat(fd)
            if st.st_ino == node.rino and stat.S_IFMT(st.st_mode) == node.kind:
                if not metacopy:
                    refuse_lost_data(state, node, fd, st)
                return fd
        wait_for(node)
    raise fs_error(failed)


def _open_widened(dir_fd: int, name: bytes, flags: int) -> Fd:
    return as_owner(lambda: Fd(os.open(name, flags, dir_fd=dir_fd)), (dir_fd, name))


def _open_again(flags: int, _name: bytes, fd: int) -> Fd:
    """Open the file that is open as `fd`."""
    # The link is the kernel's own and leads to exactly this file.
    return Fd(os.open(b"/proc/self/fd/%d" % fd, flags))


def _open_again_widened(flags: int, name: bytes, fd: int) -> Fd:
    return as_owner(lambda: _open_again(flags, name, fd), (fd, None))


def _is_there(node: File, real: RealDir, rname: bytes) -> bool:
    try:
        st = os.stat(rname, dir_fd=real.fd(), follow_symlinks=False)
    except FileNotFoundError:
        return False
    return st.st_ino == node.rino and stat.S_IFMT(st.st_mode) == node.kind


class AtRest:
    """A context with the place of `node`, which is not renamed or replaced meanwhile.

    The place is a directory and a name in it, or an fd of the file itself (O_PATH)
    and None.  The caller holds no `Dir.lock`.
    """

    # A class, since a generator takes three times as long to enter and leave.

    __slots__ = ("_lock", "_node")

    def __init__(self, node: File) -> None:
        self._node = node
        self._lock: threading.Lock | None = None

    def __enter__(self) -> tuple[Fd, bytes | None]:
        node = self._node
        for _ in range(TRIES):
            orphan, real, rname = node.orphan, node.real, node.rname
            if orphan is not None:
                return orphan, None
            if node.last_stat is not None:
                break
            parent = node.parent
            folder = parent if parent.upper is real else _other_directory_of(node, real)
            if folder is None:
                if node.orphan is not orphan:
                    continue
                kept = real.kept_fd(rname)
                return (real.fd(), rname) if kept is None else (kept, None)
            lock = folder.lock
            lock.acquire()
            try:
                if node.orphan is None and node.real is real and node.rname == rname:
                    fd = real.fd()
                    place = (_open_inside(fd, rname), None) if folder.closed else (fd, rname)
                    self._lock = lock
                    return place
            finally:
                if self._lock is None:
                    lock.release()
        raise fs_error(errno.ESTALE)

    def __exit__(self, *failure: object) -> None:
        if self._lock is not None:
            self._lock.release()


def _open_inside(fd: Fd, name: bytes) -> Fd:
    """Return an O_PATH fd of `name` in an upper directory that even its owner may not search."""
    return as_owner(partial(open_path, name, fd), (fd, None))


def _other_directory_of(node: File, real: RealDir) -> Dir | None:
    """Return the directory whose upper part is `real`, not the first one that has `node`.

    None for a lower or the index.
    """
    return next((folder for folder, _ in node.aliases or () if folder.upper is real), None)


def statx_node(state: State, node: Node, mask: int) -> bytearray:
    """Return struct statx of the real file or directory of `node`."""
    if isinstance(node, Dir):
        return statx(node.top().fd(), b"", mask)
    assert isinstance(node, File)
    with AtRest(node) as (fd, name):
        return statx(fd if name is None else open_path(name, fd), b"", mask)


def renew_file(state: State, node: File) -> Renewed | None:
    """Make every known name of `node` lead to a new inode of the same real file.

    The old inode keeps the file by an fd, for the handles that are open.  Returns None
    if it has no name.
    """
    table = state.table
    with node.parent.lock:
        if node.unlinked:
            return None
        orphan = _open_inside(node.real.fd(), node.rname)
        st = os.stat(orphan)
        if st.st_ino != node.rino:
            raise fs_error(errno.ESTALE)
        fresh = File(node.parent, node.name, node.real, st)
        for slot in ("rname", "aliases", "data", "nlink_delta", "lost", "key"):
            setattr(fresh, slot, getattr(node, slot))
        with table.lock:
            table.add_locked(fresh, node.st_ino)
            if fresh.key is not None:
                table.by_key[fresh.key] = fresh
            names = node.names()
            for parent, name in names:
                if parent.kids.get(name) is node:
                    parent.kids[name] = fresh
            node.key, node.aliases = None, None
        table.make_orphan(node, state.require_upper().unnamed_place, orphan)
    return Renewed(fresh.nodeid, len(names) == 1)


def wait_for(node: File) -> None:
    """Wait until no other thread holds the lock of a directory of `node`."""
    for folder in {folder for folder, _ in node.names()}:
        with folder.lock:
            pass


def with_ctime(st: os.stat_result, ctime_ns: int) -> os.stat_result:
    """Return `st` with the ctime `ctime_ns`, or unchanged if its own is later."""
    if st.st_ctime_ns >= ctime_ns:
        return st
    return changed_stat(st, {stat.ST_CTIME: ctime_ns // NS}, st_ctime_ns=ctime_ns)


def with_kept_ctime(st: os.stat_result, kept: tuple[int, int]) -> os.stat_result:
    """Return `st` with the ctime that `Dir.kept_ctime` says to show."""
    real, shown = kept
    if st.st_ctime_ns != real:
        return st
    return changed_stat(st, {stat.ST_CTIME: shown // NS}, st_ctime_ns=shown)


def with_nlink(st: os.stat_result, change: int) -> os.stat_result:
    """Return `st` with `change` added to its count of links."""
    return changed_stat(st, {stat.ST_NLINK: st.st_nlink + change})
