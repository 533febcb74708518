"""copy_up: create the upper copy of an inode before its first change.

Decided here and only here: when something is copied, and when the copy is visible.
A copy is staged in the workdir (`core.staging`) and renamed into place, so that readers
see either the lower inode or the whole copy, even after a crash.

Threading: while data is copied, only the copy lock of the file is held; the lock
of the parent directory is taken to publish the copy.

Source: overlayfs.rst "Non-directories", "Metadata only copy up", "Index";
fs/overlayfs/copy_up.c.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from unionfs.core.file_marks import origin_of
from unionfs.core.inode import NOTHING_LOST, Data, Dir, File, in_upper
from unionfs.core.layer import Fd, RealDir, lstat_at, open_path
from unionfs.core.link_index import LinkIndex, encode_delta
from unionfs.core.lookup import load_locked
from unionfs.core.marks_on_disk import secure_marks, waits_for_marks
from unionfs.core.metadata import copy_metadata, set_mark, set_xattr, users_own
from unionfs.core.owner_rights import as_owner
from unionfs.core.protection import past_marks, protect, refuse, require_protectable
from unionfs.core.real_file import TRIES, AtRest, open_node, stat_node, wait_for
from unionfs.core.redirect import lower_names
from unionfs.core.staging import (
    Copy,
    Staged,
    copy_data,
    is_unsafe,
    plan_copy,
    secure_data,
    stage_copy,
)
from unionfs.core.state import State, Writable
from unionfs.core.whiteout import DT_DIR, INO_SHIFT
from unionfs.core.workdir import WorkDir
from unionfs.errors import fs_error
from unionfs.light_logging import Logger
from unionfs.syscalls import xattr
from unionfs.syscalls.attributes import utimens_at
from unionfs.syscalls.lowered import keeping_suid
from unionfs.syscalls.statx import marks_at

log = Logger(__name__)

# Copying more than this takes longer than handing it to a thread.
SLOW_BYTES = 256 << 10
# The same if the data has to be written to a disk that took no longer than this lately.
_QUICK_BYTES = 64 << 10
_QUICK_NS = 300_000


def is_slow_copy(state: State, node: File, size: int, *, metadata_only: bool = False) -> bool:
    """Tell whether copying `size` bytes up takes so long that a worker thread should do it.

    With `metadata_only` a metacopy is enough.  If the data has to be on disk before the copy is
    visible, that depends on the disk.
    """
    if state.config.volatile:
        return size > SLOW_BYTES
    ahead = None if state.writable is None else state.writable.ahead
    if ahead is not None and ahead.is_ready(node, metadata_only=metadata_only):
        return False
    return size > (_QUICK_BYTES if state.write_back_ns < _QUICK_NS else 0)


def source_bytes(node: File) -> int:
    """Return the size in bytes of the lower data of `node`; 0 if the file is gone."""
    if node.found_size >= 0 and node.data is None:
        return node.found_size
    real, name = node.data_place()
    try:
        return os.stat(name, dir_fd=real.fd(), follow_symlinks=False).st_size
    except OSError:
        return 0  # opening it reports the error


def copy_up_dir(state: State, d: Dir) -> RealDir:
    """Return the upper directory of `d`; make it, and those above it, if they are missing."""
    if d.upper is not None:
        return d.upper
    writable = state.require_upper()
    missing: list[Dir] = []
    at = d
    while at.upper is None:
        missing.append(at)
        at = at.parent
    upper = at.upper
    for below in reversed(missing):
        upper = _copy_up_one_dir(state, writable, below)
    return upper


def _copy_up_one_dir(state: State, writable: Writable, d: Dir) -> RealDir:
    parent, work = d.parent, writable.work
    with parent.lock:
        if d.upper is not None:
            return d.upper
        if d.dead or parent.upper is None:
            raise fs_error(errno.ENOENT)
        source = d.lowers[0]
        st = os.stat(source.fd())
        name = work.new_name()
        try:
            staged = state.with_room(lambda name, _fd: work.make_dir(name), name, work.fd)
            origin = None
            if source.parent is not None:
                origin = origin_of(state, source.parent, source.name)
            marks = {} if origin is None else {state.marks.origin: origin}
            wanted = users_own(state.marks)
            place = (source.fd(), None)
            stored = state.owners.stored(source.layer, place, st)
            convert = partial(state.owners.copied_xattr, source.layer)
            copy_metadata(place, (staged, None), st, wanted, marks, stored, convert)
            ino = os.stat(staged).st_ino
            protected = marks_at(source.fd(), b"")
            require_protectable((staged, None), protected)
            if stored.marks:  # its owner and mode, not only what tells its st_ino
                secure_marks(state, staged)
            publish_locked(state, parent, d.name, name)
            protect((staged, None), protected)
            d.keep_ctime(st, os.stat(staged))
        except BaseException:
            work.discard(name)
            raise
        upper = RealDir(writable.upper, parent.upper, d.name)
        d.merged = True
        d.upper = upper
        with state.table.lock:
            state.table.uppers.add(d)
        parent.note_upper(d.name, ino << INO_SHIFT | DT_DIR)
    state.counts["copy_ups"] += 1
    return upper


def publish_locked(state: State, parent: Dir, name: bytes, staged: bytes) -> None:
    """Rename what is `staged` to `name` in the upper of `parent`, and keep the directory's times.

    The caller holds `parent.lock`.
    """
    fd = parent.require_upper().fd()
    before = os.stat(fd)
    work = state.require_upper().work.fd
    if not parent.impure:
        mark_impure(state, parent)
    try:
        os.rename(staged, name, src_dir_fd=work, dst_dir_fd=fd)
    except PermissionError:
        move = partial(os.rename, staged, name, src_dir_fd=work, dst_dir_fd=fd)
        past_marks(lambda: as_owner(move, (work, staged), (fd, None)), fd)
    times = before.st_atime_ns, before.st_mtime_ns
    try:
        try:
            utimens_at(fd, None, *times)
        except PermissionError:
            past_marks(lambda: utimens_at(fd, None, *times), fd)
        parent.keep_ctime(before, os.stat(fd))
    except OSError as error:
        # The rename is done, so the caller must not get an error.
        log.error(
            "the times of %r cannot be restored: %s", parent.top().full_path(), error.strerror
        )


def mark_impure(state: State, parent: Dir) -> None:
    """Mark the upper directory as impure: its entries may show the st_ino of their origin."""
    if parent.impure or parent.upper is None:
        return
    # Only overlayfs's listing of this directory depends on the mark, so a filesystem
    # that is full or has no attributes is no reason to fail.
    fd = parent.upper.fd()
    with suppress(OSError):
        past_marks(lambda: set_mark((fd, None), state.marks.impure, b"y"), fd)
    parent.impure = True


def copy_up_file(
    state: State,
    node: File,
    *,
    size: int | None = None,
    metadata_only: bool = False,
    allowed: int = 0,
    change: Callable[[Fd], object] | None = None,
) -> Fd | None:
    """Copy `node` to the upper, unless it is there already.

    Returns an fd of the copy that was made, for reading and writing; None if there is none, if
    it is no regular file, or if it has marks of chattr(1), which forbid some uses.  Raises
    EPERM if the file has other marks than those `allowed`.  `size` is the number of bytes of
    the data to copy (0 for a file that is about to be truncated), None for all.  With
    `metadata_only`, and the mount's metacopy option, the data stays in the lower.

    If an fd is returned, `change` was called with it before the copy got its name: so a program
    or a crash sees the file before the change or after it.  Otherwise it was not called.
    """
    if in_upper(node) and (node.data is None or metadata_only):
        return None
    writable = state.require_upper()
    with writable.copy_locks.holding(node.nodeid):
        if in_upper(node):
            if node.data is not None and not metadata_only:
                _complete_data(state, node, size)
            return None
        if not node.unlinked:
            copy_up_dir(state, node.parent)
        ahead = writable.ahead
        taken = None if ahead is None else ahead.take(node, size, metadata_only=metadata_only)
        if taken is None:
            copy = plan_copy(state, writable, node, size, metadata_only=metadata_only)
            refuse(copy.protected, allowed)
            staged = _stage_safely(state, copy)
        else:
            staged = taken
        _give_name(staged, change)
    state.counts["copy_ups"] += 1
    if taken is not None and ahead is not None:
        ahead.follow(taken.copy)
    return None if staged.copy.protected else staged.fd


def _stage_safely(state: State, copy: Copy) -> Staged:
    """Stage `copy`, with its data on disk."""
    staged = stage_copy(copy)
    # A program that truncates files would not use what is staged.
    ahead = copy.writable.ahead if copy.size is None else None
    if (ahead is None or copy.metacopy) and not is_unsafe(staged):
        return staged  # nothing waits for a disk
    begun = time.monotonic_ns()
    try:
        if ahead is not None and ahead.secure(staged):
            return staged
        secure_data(staged)
    except BaseException:
        copy.writable.work.discard(copy.name)
        raise
    # One that takes long counts for the next few.
    lately = time.monotonic_ns() - begun
    state.write_back_ns = max(lately, (3 * state.write_back_ns + lately) // 4)
    return staged


def _give_name(staged: Staged, change: Callable[[Fd], object] | None) -> None:
    """Make the staged copy the file itself, under the names that the file has now.

    A regular file without marks of chattr(1) is changed by `change` before.
    """
    copy = staged.copy
    node, work = copy.node, copy.writable.work
    data = node.data
    if data is None:
        data = Data(node.real, node.rname, copy.st.st_blocks if copy.state.layers_immutable else -1)
    try:
        if copy.protected:
            require_protectable((work.fd, copy.name), copy.protected)
        elif change is not None and staged.fd is not None:
            change(staged.fd)
        if copy.metacopy:
            node.data = data
        # The file may have lost names while its data was copied.
        delta = copy.st.st_nlink - node.lost.links - 1
        if copy.link_index is None or delta < 0:
            _publish(copy, staged.ino)
        else:
            _publish_indexed(copy, copy.link_index, delta)
        if not copy.metacopy:
            node.data = None
        if copy.protected:
            with AtRest(node) as place:
                protect(place, copy.protected)
    except BaseException:
        work.discard(copy.name)
        raise


def _publish(copy: Copy, ino: int) -> None:
    """Rename the staged copy to the present name of the file; keep an fd of it if it has none.

    Its inode number is `ino`.
    """
    state, node, work = copy.state, copy.node, copy.writable.work
    while True:
        parent, name = node.parent, node.name
        if node.unlinked:
            orphan = open_path(copy.name, work.fd)
            node.rino = ino
            state.table.make_orphan(node, copy.writable.unnamed_place, orphan)
            os.unlink(copy.name, dir_fd=work.fd)
            break
        copy_up_dir(state, parent)
        with parent.lock:
            if node.unlinked or (node.parent, node.name) != (parent, name):
                continue
            publish_locked(state, parent, name, copy.name)
            settle_locked(node, parent, name, ino)
            break
    node.changed += 1
    node.found_size = -1


def settle_locked(node: File, parent: Dir, name: bytes, ino: int) -> None:
    """Note that `node` is the upper file `name` in `parent`, whose inode number is `ino`."""
    # In one statement: another thread may give it another place, and half of that is no place.
    node.rino, node.real, node.rname = ino, parent.require_upper(), name
    parent.note_upper(name, ino << INO_SHIFT | node.kind >> 12)


def _publish_indexed(copy: Copy, index: LinkIndex, delta: int) -> None:
    """Enter the staged copy into the index, and link it to the present name of the file.

    `delta` is the number of names in the union minus the number of links of the copy.
    If the file has lost the name by which it was known, its other names lead to it
    through the index.
    """
    state, node, entry, work = copy.state, copy.node, copy.entry, copy.writable.work
    if not state.marks.can_carry(copy.st.st_mode):
        index.note_delta(entry, delta)
    elif delta:
        set_xattr((work.fd, copy.name), state.marks.nlink, encode_delta(delta))
    os.rename(copy.name, entry, src_dir_fd=work.fd, dst_dir_fd=index.fd)
    st = os.stat(entry, dir_fd=index.fd, follow_symlinks=False)
    index.add(entry, st.st_ino)
    place = copy.writable.place_in_index(index)
    with state.table.lock:
        if node.key is not None and state.table.by_key.get(node.key) is node:
            del state.table.by_key[node.key]
            state.lost.forget(node.key)
        node.key = (st.st_dev, st.st_ino)
        state.table.by_key[node.key] = node
    node.nlink_delta, node.lost = delta, NOTHING_LOST
    node.rino, node.rname, node.real = st.st_ino, entry, place
    node.changed += 1
    node.found_size = -1
    if not node.unlinked:
        link_up(state, node, node.parent, node.name)


def link_up(state: State, node: File, parent: Dir, name: bytes) -> None:
    """Link an indexed file, which the union shows as `name` in `parent`, there in the upper."""
    work = state.require_upper().work
    for _ in range(TRIES):
        copy_up_dir(state, parent)
        with parent.lock:
            if parent.kids.get(name) is not node or name in load_locked(state, parent).upper:
                return
            staged = _stage_link(node, work)
            if staged is not None:
                try:
                    publish_locked(state, parent, name, staged)
                except BaseException:
                    work.discard(staged)
                    raise
                settle_locked(node, parent, name, node.rino)
                set_delta(state, node, node.nlink_delta - 1)
                state.table.make_first(node, (parent, name))
                return
        wait_for(node)
    raise fs_error(errno.ESTALE)


def _stage_link(node: File, work: WorkDir) -> bytes | None:
    """Return the name of a staged hard link of the upper file of `node`.

    None if another thread has just renamed or removed the name by which it is reached.
    """
    real, rname, staged = node.real, node.rname, work.new_name()
    try:
        os.link(rname, staged, src_dir_fd=real.fd(), dst_dir_fd=work.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    is_it = False
    try:
        is_it = lstat_at(work.fd, staged).st_ino == node.rino
    finally:
        if not is_it:
            work.discard(staged)
    return staged if is_it else None


def set_delta(state: State, node: File, delta: int) -> None:
    """Record the difference between the union's link count and the upper inode's own.

    Called after the names were changed: a crash in between leaves the count too
    high.  If it were too low, programs that copy trees would not see that two names
    are one file.
    """
    node.nlink_delta = delta
    if node.orphan is not None:
        return
    place = (node.real.fd(), node.rname)
    try:
        if state.marks.can_carry(node.kind):
            set_xattr(place, state.marks.nlink, encode_delta(delta))
            return
        index = state.index()
        if index is not None:
            st = os.stat(node.rname, dir_fd=place[0], follow_symlinks=False)
            entry = index.entry_of(*place, st)
            if entry is not None:
                index.note_delta(entry, delta)
    except OSError as error:
        log.error("the link count of %r stays too high: %s", node.name, error)


def redirect_data(state: State, node: File) -> None:
    """Write a redirect to its data on a metacopy, before the file gets another name."""
    if node.data is None or not in_upper(node):
        return
    with AtRest(node) as (fd, name):
        if name is not None and state.marks.redirect not in xattr.list_at(fd, name):
            value = b"/" + b"/".join(lower_names(node))
            set_mark((fd, name), state.marks.redirect, value)
            if waits_for_marks(state):
                secure_marks(state, open_node(state, node, os.O_RDONLY, metacopy=True, widen=True))


def is_cut_short(state: State, node: File) -> bool:
    """Tell whether a crash left `node` as a truncated metacopy whose data is still in the lower."""
    if node.data is None or not in_upper(node):
        return False
    return stat_node(state, node).st_size != source_bytes(node)


def _complete_data(state: State, node: File, size: int | None) -> None:
    """Copy the data of a metacopy into the upper.

    The bytes are written to the upper file itself, and its metacopy mark is removed
    when they are safe.  Until then its data is that of the lower, up to the size of the
    upper file, so a crash loses nothing.
    """
    fd = open_node(state, node, os.O_RDWR, metacopy=True, widen=True)
    before = os.fstat(fd)
    present = xattr.list_fd(fd)
    capability = xattr.get_fd(fd, b"security.capability")
    kept = before.st_size if size is None else min(size, before.st_size)
    with keeping_suid(fd):
        if kept < before.st_size:
            os.ftruncate(fd, kept)
        copy_data(state, node, fd, kept)
    if capability is not None:
        os.setxattr(fd, "security.capability", capability)
    if kept == before.st_size:
        utimens_at(fd, None, before.st_atime_ns, before.st_mtime_ns)
    if not state.config.volatile:
        os.fsync(fd)
    for mark in (state.marks.metacopy, state.marks.redirect):
        if mark in present:
            os.removexattr(fd, mark)
    node.data = None
    node.changed += 1
    state.counts["copy_ups"] += 1
