"""copy_up: create the upper copy of an inode before its first change.

Decided here and only here: what is copied, in which order, and when it is visible.
A copy is staged in the workdir and renamed into place, so that readers see either
the lower inode or the whole copy, even after a crash.  The order is data, owner,
attributes, mode, times: a write drops capabilities, chown drops suid, and every
one of these steps changes the times.

Threading: while data is copied, only the copy lock of the file is held; the lock
of the parent directory is taken to publish the copy.

Source: overlayfs.rst "Non-directories", "Metadata only copy up", "Index";
fs/overlayfs/copy_up.c.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from functools import partial

from unionfs.core.file_marks import origin_of
from unionfs.core.inode import NOTHING_LOST, Dir, File, in_upper
from unionfs.core.layer import Fd, RealDir, open_path, open_untouched
from unionfs.core.link_index import LinkIndex, encode_delta, entry_name
from unionfs.core.lookup import load_locked
from unionfs.core.metadata import copy_metadata, set_mark, set_xattr, users_own
from unionfs.core.origin import encode_origin
from unionfs.core.owner_rights import as_owner
from unionfs.core.protection import past_marks, protect, refuse, require_protectable
from unionfs.core.real_file import at_rest, open_node, stat_node
from unionfs.core.redirect import lower_names
from unionfs.core.state import State, Writable
from unionfs.core.whiteout import DT_DIR, INO_SHIFT, upper_entry
from unionfs.errors import fs_error
from unionfs.interrupts import stop_if_abandoned
from unionfs.light_logging import Logger
from unionfs.light_typing import NamedTuple
from unionfs.syscalls import xattr
from unionfs.syscalls.attributes import touch, utimens_at
from unionfs.syscalls.copyfile import copy_range, try_reflink
from unionfs.syscalls.lowered import keeping_suid
from unionfs.syscalls.statx import marks_at
from unionfs.syscalls.writeback import begin_write_back, write_back

log = Logger(__name__)

# Copying more than this takes longer than handing it to a thread.
SLOW_BYTES = 256 << 10
# The same if the data has to be written to a disk that took no longer than this lately.
_QUICK_BYTES = 64 << 10
_QUICK_NS = 300_000


def is_slow_copy(state: State, size: int) -> bool:
    """Tell whether copying `size` bytes up takes so long that a worker thread should do it.

    If the data has to be on disk before the copy is visible, that depends on the disk.
    """
    if state.config.volatile:
        return size > SLOW_BYTES
    return size > (_QUICK_BYTES if state.write_back_ns < _QUICK_NS else 0)


def source_bytes(node: File) -> int:
    """Return the size in bytes of the lower data of `node`; 0 if the file is gone."""
    real, name = node.data or (node.real, node.rname)
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
            staged = work.make_dir(name)
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
    mark_impure(state, parent)

    def rename() -> None:
        move = partial(os.rename, staged, name, src_dir_fd=work, dst_dir_fd=fd)
        as_owner(move, (work, staged), (fd, None))

    past_marks(rename, fd)
    try:
        past_marks(lambda: utimens_at(fd, None, before.st_atime_ns, before.st_mtime_ns), fd)
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
) -> None:
    """Copy `node` to the upper, unless it is there already.

    Raises EPERM if the file has other marks of chattr(1) than those `allowed`.  `size` is
    the number of bytes of the data to copy (0 for a file that is about to be truncated),
    None for all.  With `metadata_only`, and the mount's metacopy option, the data stays in
    the lower.
    """
    if in_upper(node) and (node.data is None or metadata_only):
        return
    writable = state.require_upper()
    with writable.copy_locks.holding(node.nodeid):
        if in_upper(node):
            if node.data is not None and not metadata_only:
                _complete_data(state, node, size)
            return
        if not node.unlinked:
            copy_up_dir(state, node.parent)
        copy = _plan(state, writable, node, size, metadata_only=metadata_only)
        refuse(copy.protected, allowed)
        _copy_up_lower(copy)
    state.counts["copy_ups"] += 1


class _Copy(NamedTuple):
    """One copy_up of a file.

    `st` is the stat of the lower.  `name` is the copy in the staging directory, which has
    the first `size` bytes of the data (None: all, or with `metacopy` none).  `marks`
    are the attributes to set on the copy, `protected` its marks of chattr(1).  `entry` is
    its name in `link_index`, through which lookups of its other names in the union find it;
    `link_index` is None for a file with one name.
    """

    state: State
    writable: Writable
    node: File
    source: tuple[Fd, bytes]
    st: os.stat_result
    name: bytes
    size: int | None
    metacopy: bool
    marks: dict[str, bytes]
    protected: int
    link_index: LinkIndex | None = None
    entry: bytes = b""


def _plan(
    state: State, writable: Writable, node: File, size: int | None, *, metadata_only: bool
) -> _Copy:
    """Decide what the copy of the lower file `node` will be."""
    fd, name = node.real.fd(), node.rname
    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    metacopy = state.config.metacopy and metadata_only
    protected = 0 if node.unlinked else marks_at(fd, name)
    # The data of an append-only copy could not be completed.
    metacopy = metacopy and stat.S_ISREG(st.st_mode) and st.st_size > 0 and not protected
    copy = _Copy(
        state=state,
        writable=writable,
        node=node,
        source=(fd, name),
        st=st,
        name=writable.work.new_name(),
        size=None if metacopy else size,
        metacopy=metacopy,
        marks={},
        protected=protected,
    )
    marks = state.marks
    origin = origin_of(state, node.real, name)
    if st.st_nlink == 1:
        if origin is not None:
            copy.marks[marks.origin] = origin
        return copy
    if writable.index is None:
        # Nothing will lead from the other links, which show the lower's st_ino, to this
        # copy: it becomes a file of its own, with its own st_ino.
        return copy
    # A lookup of another link searches the index by the inode that it is a link of.
    linked = encode_origin(node.real.layer, fd, name)
    if linked is not None:
        copy.marks[marks.origin] = linked
        copy = copy._replace(link_index=writable.index, entry=entry_name(linked))
    if origin is not None and origin != linked:
        copy.marks[marks.first_origin] = origin
    return copy


def _copy_up_lower(copy: _Copy) -> None:
    node, work = copy.node, copy.writable.work
    data = node.data or (node.real, node.rname)
    try:
        _stage(copy)
        require_protectable((work.fd, copy.name), copy.protected)
        if copy.metacopy:
            node.data = data
        # The file may have lost names while its data was copied.
        delta = copy.st.st_nlink - node.lost.links - 1
        if copy.link_index is None or delta < 0:
            _publish(copy)
        else:
            _publish_indexed(copy, copy.link_index, delta)
        if not copy.metacopy:
            node.data = None
        if copy.protected:
            with at_rest(node) as place:
                protect(place, copy.protected)
    except BaseException:
        work.discard(copy.name)
        raise


def _stage(copy: _Copy) -> None:
    """Make a whole copy of the file in the staging directory."""
    state, node, st, work = copy.state, copy.node, copy.st, copy.writable.work
    wanted = users_own(state.marks)
    stored = state.owners.stored(node.real.layer, copy.source, st)
    convert = partial(state.owners.copied_xattr, node.real.layer)
    if node.kind == stat.S_IFREG:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        staged = Fd(os.open(copy.name, flags, 0o600, dir_fd=work.fd))
        if copy.metacopy:
            os.ftruncate(staged, st.st_size)
            os.setxattr(staged, state.marks.metacopy, b"")
        else:
            copy_data(state, node, staged, copy.size)
            if st.st_size and _is_ordered(copy.writable, state):
                begin_write_back(staged)  # the disk writes while we do the other steps
        copy_metadata(copy.source, (staged, None), st, wanted, copy.marks, stored, convert)
        if copy.size is not None:
            # The copy has not all of the data, so it must not have the old mtime.
            touch(staged)
        if not copy.metacopy and st.st_size:
            _secure_data(copy.writable, state, staged)
        return
    fd, name = copy.source
    if node.kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=fd), copy.name, dir_fd=work.fd)
    else:
        os.mknod(copy.name, node.kind | 0o600, st.st_rdev, dir_fd=work.fd)
    copy_metadata(copy.source, (work.fd, copy.name), st, wanted, copy.marks, stored, convert)


def _secure_data(writable: Writable, state: State, staged: int) -> None:
    """Make sure that the data of `staged` is on disk before its name is."""
    if state.config.volatile:
        return
    with state.gate.outside():
        begun = time.monotonic_ns()
        if _is_ordered(writable, state):
            write_back(staged)  # fsync would also wait for a commit of the journal
        else:
            os.fsync(staged)
        # One that takes long counts for the next few.
        lately = time.monotonic_ns() - begun
        state.write_back_ns = max(lately, (3 * state.write_back_ns + lately) // 4)


def _is_ordered(writable: Writable, state: State) -> bool:
    return writable.upper.ordered and not state.config.volatile


def copy_data(state: State, node: File, staged: int, size: int | None) -> None:
    """Copy the first `size` bytes of the data of `node` into `staged`; None copies all."""
    if size == 0:
        return
    real, name = node.data or (node.real, node.rname)
    source = open_untouched(name, real.fd())
    st = os.fstat(source)
    if node.data is None and st.st_ino != node.rino:
        raise fs_error(errno.ESTALE)  # the layer was changed from outside
    length = st.st_size if size is None else min(size, st.st_size)
    if length == st.st_size and real.layer.reflinks and length > 0:
        if try_reflink(source, staged):
            return
        real.layer.reflinks = False
    holes = st.st_blocks * 512 < st.st_size
    if in_upper(node):
        # Not outside the gate: the data is written to the upper file itself, which a
        # freeze must not move meanwhile.
        copy_range(source, staged, length, holes=holes, pause=stop_if_abandoned)
    else:
        with state.gate.outside():
            copy_range(source, staged, length, holes=holes, pause=stop_if_abandoned)


def _publish(copy: _Copy) -> None:
    """Rename the staged copy to the present name of the file; keep an fd of it if it has none."""
    state, node, work = copy.state, copy.node, copy.writable.work
    st = os.stat(copy.name, dir_fd=work.fd, follow_symlinks=False)
    while True:
        parent, name = node.parent, node.name
        if node.unlinked:
            orphan = open_path(copy.name, work.fd)
            node.rino = st.st_ino
            state.table.make_orphan(node, copy.writable.unnamed_place, orphan)
            os.unlink(copy.name, dir_fd=work.fd)
            break
        copy_up_dir(state, parent)
        with parent.lock:
            if node.unlinked or (node.parent, node.name) != (parent, name):
                continue
            publish_locked(state, parent, name, copy.name)
            settle_locked(node, parent, name, st)
            break
    node.changed += 1
    node.found_size = -1


def settle_locked(node: File, parent: Dir, name: bytes, st: os.stat_result) -> None:
    """Note that `node` is the upper file `name` in `parent`, whose attributes are `st`."""
    node.rino = st.st_ino
    node.rname = name
    node.real = parent.require_upper()
    parent.note_upper(name, upper_entry(st))


def _publish_indexed(copy: _Copy, index: LinkIndex, delta: int) -> None:
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
    copy_up_dir(state, parent)
    with parent.lock:
        if parent.kids.get(name) is not node or name in load_locked(state, parent).upper:
            return
        staged = work.new_name()
        fd = node.real.fd()
        st = os.stat(node.rname, dir_fd=fd, follow_symlinks=False)
        os.link(node.rname, staged, src_dir_fd=fd, dst_dir_fd=work.fd, follow_symlinks=False)
        try:
            publish_locked(state, parent, name, staged)
        except BaseException:
            work.discard(staged)
            raise
        settle_locked(node, parent, name, st)
        set_delta(state, node, node.nlink_delta - 1)
        if (node.parent, node.name) != (parent, name):
            swap_place(node, parent, name)


def swap_place(node: File, parent: Dir, name: bytes) -> None:
    """Make `name` in `parent`, one of its aliases, the place of `node`."""
    aliases = [alias for alias in node.aliases or () if alias != (parent, name)]
    aliases.append((node.parent, node.name))
    node.parent, node.name, node.aliases = parent, name, aliases


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
    with at_rest(node) as (fd, name):
        if name is not None and state.marks.redirect not in xattr.list_at(fd, name):
            value = b"/" + b"/".join(lower_names(node))
            set_mark((fd, name), state.marks.redirect, value)


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
