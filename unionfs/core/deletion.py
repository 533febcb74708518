"""unlink and rmdir: how a name is removed from a merged directory.

Decided here and only here: what a removal leaves on disk, and what becomes of an inode that
loses a name.  A name that a lower has is replaced by a whiteout.  A file that is still in use
when it loses its last name is kept by an fd, or by a name in the staging directory.

Source: overlayfs.rst "whiteouts and opaque directories"; fs/overlayfs/dir.c.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable

from unionfs.core.copy_up import copy_up_dir, set_delta
from unionfs.core.file import open_fd
from unionfs.core.inode import Dir, File, Lost, empty, in_upper
from unionfs.core.layer import OUT_OF_FDS, Fd, RealDir, lstat_at, open_path
from unionfs.core.lookup import find_locked, load_locked
from unionfs.core.origin import encode_origin
from unionfs.core.protection import require_changeable
from unionfs.core.real_file import with_nlink
from unionfs.core.shelter import enter_shelter, make_shelter
from unionfs.core.state import State
from unionfs.core.whiteout_ops import remove_name
from unionfs.errors import fs_error
from unionfs.light_logging import Logger
from unionfs.syscalls.statx import marks_at

log = Logger(__name__)


def unlink(state: State, parent: Dir, name: bytes) -> None:
    """Remove the name of a file; if a lower has it too, hide that with a whiteout."""
    while True:
        with parent.lock:
            if _unlinked_simple_locked(state, parent, name):
                break
            state.require_upper()
            node = find_locked(state, parent, name)
            if node is None:
                raise fs_error(errno.ENOENT)
            if not isinstance(node, File):
                raise fs_error(errno.EISDIR)
            if parent.upper is not None:
                _unlink_locked(state, parent, name, node)
                break
        copy_up_dir(state, parent)
    table = state.table
    if len(table.unopened) > table.max_unopened:
        table.close_surplus()


def _unlinked_simple_locked(state: State, d: Dir, name: bytes) -> bool:
    """Remove a closed file that only the upper has, and by this name only; tell if it was one.

    Most files that are removed soon after they were made are such, and each needs no more than
    an fd, which keeps it, and unlink(2).  The caller holds `d.lock`.
    """
    loaded, upper, node, writable = d.loaded, d.upper, d.kids.get(name), state.writable
    if loaded is None or upper is None or writable is None or not state.layers_immutable:
        return False
    if type(node) is not File or node.real is not upper or node.rname != name or node.opened:
        return False
    # Without a key it has no other names, and no entry in the index.
    if node.key is not None or name not in loaded.upper or name in loaded.lower:
        return False
    dir_fd = upper.fd()
    try:
        orphan = open_path(name, dir_fd)
    except OSError as error:
        if error.errno in OUT_OF_FDS:
            return False
        raise
    os.unlink(name, dir_fd=dir_fd)
    d.kept_ctime = None
    del loaded.upper[name]
    d.kids.pop(name, None)  # a FORGET takes no lock of a directory, and may have removed it
    state.table.make_orphan(node, writable.unnamed_place, orphan)
    return True


def _unlink_locked(state: State, parent: Dir, name: bytes, node: File) -> None:
    if not in_upper(node):
        require_changeable(node)
    leaving = leave_name_locked(state, node, parent, name)
    remove_name(state, parent, name, None)
    leaving()


def leave_name_locked(state: State, node: File, parent: Dir, name: bytes) -> Callable[[], None]:
    """Prepare the removal of `name` in `parent` from `node`; return what to do after it.

    A file that loses its last known name is kept alive by an fd: the kernel may
    still refer to it, by an open handle or in a way that we do not see.  After it has
    released the locks, the caller calls `InodeTable.close_surplus`.
    """
    is_upper, upper_name = in_upper(node), name in parent.require_loaded().upper
    rest: list[tuple[Dir, bytes]] = []
    if node.aliases is not None or node.parent is not parent or node.name != name:
        rest = [other for other in node.names() if other != (parent, name)]
    orphan = place = None
    if is_upper:
        if rest:
            place = _place_without(state, node, rest)
        else:
            orphan = _without_name(state, node)

    def done() -> None:
        if parent.kids.get(name) is node:
            del parent.kids[name]
        if not is_upper:
            _lose_link(state, node, parent)
        elif not upper_name:
            # Only the union has one link less, not the upper inode.
            set_delta(state, node, node.nlink_delta - 1)
        if rest:
            state.table.drop_name(node, (parent, name))
            if place is not None:
                node.real, node.rname = place
            return
        if orphan is None:
            node.unlinked = True
        elif isinstance(orphan, bytes):
            enter_shelter(state.require_upper(), node, orphan)
        else:
            state.table.make_orphan(node, state.require_upper().unnamed_place, orphan)
            if isinstance(orphan, Fd):
                _drop_index_entry(state, node, orphan)

    return done


def _without_name(state: State, node: File) -> Fd | os.stat_result | bytes:
    """Return what keeps the upper file `node` when it loses its name.

    That is an fd of it, the one of an open handle if there is one.  rm(1) must not fail because
    many files are open.  So if no more files can be opened it is the attributes that the file
    will have or, if the file is open, its new name in the staging directory.
    """
    if node.opened and node.key is None and len(state.table.orphans) > state.fds.capacity // 2:
        return make_shelter(state.require_upper(), node)
    fd = open_fd(node)
    if fd is not None:
        return fd
    try:
        return state.with_room(open_path, node.rname, node.real.fd())
    except OSError as error:
        if error.errno not in OUT_OF_FDS:
            raise
        if node.opened:
            return make_shelter(state.require_upper(), node)
        return with_nlink(lstat_at(node.real.fd(), node.rname), -1)


def _lose_link(state: State, node: File, parent: Dir) -> None:
    """Count one link less of a lower file, after a name in `parent` was removed."""
    if node.key is None:
        node.lost = Lost(node.lost.links + 1, time.time_ns())
        return
    origin = None
    now = time.time_ns()
    try:
        origin = encode_origin(node.real.layer, node.real.fd(), node.rname)
        now = os.stat(parent.require_upper().fd()).st_ctime_ns  # the filesystem's own clock
    except OSError as error:
        log.error("the link count of %r will be too high after a remount: %s", node.name, error)
    node.lost = state.lost.add(node.key, origin, now)


def _place_without(
    state: State, node: File, rest: list[tuple[Dir, bytes]]
) -> tuple[RealDir, bytes]:
    """Return a place in the upper that `node` still has when only the names in `rest` are left.

    If the upper has none of those names, because they are links of the lower
    file that was copied up, it is the index entry.
    """
    for parent, name in rest:
        # `loaded` of the directory may be None at the moment, so look on the disk.
        if parent.upper is not None and _is_at(node, parent.upper, name):
            return parent.upper, name
    writable = state.require_upper()
    index = writable.index
    if index:
        dir_fd = node.real.fd()
        entry = index.entry_of(dir_fd, node.rname, lstat_at(dir_fd, node.rname))
        if entry is not None:
            index.used.add(entry)
            return writable.place_in_index(index), entry
    return node.real, node.rname


def _is_at(node: File, real: RealDir, name: bytes) -> bool:
    """Tell whether `name` in the upper directory `real` is the upper file of `node`."""
    try:
        st = lstat_at(real.fd(), name)
    except FileNotFoundError:
        return False
    return st.st_ino == node.rino and stat.S_IFMT(st.st_mode) == node.kind


def _drop_index_entry(state: State, node: File, orphan: Fd) -> None:
    """Remove the index entry, if any, of a file that has no name in the union any more."""
    index = None if node.key is None else state.index()
    if not index:
        return
    # `link_up` adds a name to the upper and writes the count afterwards, so in this
    # order the sum is never too low.
    delta = node.nlink_delta
    try:
        st = os.stat(orphan)
        if st.st_nlink + delta > 0:
            return
        entry = index.entry_of(orphan, None, st)
        if entry is not None and index.remove(entry):
            node.nlink_delta += 1
    except OSError as error:
        # All names are removed, so the entry has no effect any more.
        log.error("an index entry that is no longer needed cannot be removed: %s", error)


def rmdir(state: State, parent: Dir, name: bytes) -> None:
    """Remove an empty merged directory."""
    state.require_upper()
    while True:
        with parent.lock:
            d = find_locked(state, parent, name)
            if d is None:
                raise fs_error(errno.ENOENT)
            if not isinstance(d, Dir):
                raise fs_error(errno.ENOTDIR)
            if parent.upper is not None:
                with d.lock:
                    if not load_locked(state, d).is_empty():
                        raise not_empty(parent, d)
                    _rmdir_locked(state, parent, name, d)
                break
        copy_up_dir(state, parent)
    state.table.close_surplus()


def _rmdir_locked(state: State, parent: Dir, name: bytes, d: Dir) -> None:
    require_changeable(d)
    leaving = leave_dir_locked(state, d)
    remove_name(state, parent, name, d)
    leaving()
    if parent.kids.get(name) is d:
        del parent.kids[name]


def not_empty(parent: Dir, d: Dir) -> OSError:
    """Return the error for removing the directory `d` in `parent`, which is not empty.

    EPERM if one of the two is immutable or append-only, which the kernel checks first;
    else ENOTEMPTY.
    """
    marked = marks_at(parent.top().fd(), b"") or marks_at(d.top().fd(), b"")
    return fs_error(errno.EPERM if marked else errno.ENOTEMPTY)


def leave_dir_locked(state: State, d: Dir) -> Callable[[], None]:
    """Prepare the removal of `d`; return what to do after it.

    Its fd is kept open, because the directory may be the working directory of a process.
    After it has released the locks, the caller calls `InodeTable.close_surplus`.
    """
    real = d.top()
    fd = real.fd()

    def done() -> None:
        real.pin(fd)
        state.table.make_dead(d)
        d.loaded = empty()

    return done
