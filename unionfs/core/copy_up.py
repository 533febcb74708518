"""copy_up: giving an inode its place in the upper before it is first changed.

Decided here and only here: what is copied, in which order, and when it shows.
A copy is staged in the workdir and renamed into place, so that whoever looks,
also after a crash, sees the lower inode or the whole copy.  The order of a copy
is data, owner, attributes, mode, times: writing drops capabilities, chown
drops suid, and everything before it moves the times.

Threading: data is copied with no lock held but the one of the copy itself;
only publishing it takes the lock of its directory.

Source: overlayfs.rst "Non-directories", "Metadata only copy up", "Index";
fs/overlayfs/copy_up.c.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from contextlib import suppress

from unionfs.core.file_marks import origin_of
from unionfs.core.inode import NOTHING_LOST, Dir, File
from unionfs.core.layer import Fd, Layer, RealDir, open_path, open_untouched
from unionfs.core.link_index import encode_delta, entry_name
from unionfs.core.origin import encode_origin
from unionfs.core.real_file import at_rest, open_node, stat_node
from unionfs.core.redirect import lower_names
from unionfs.core.state import State
from unionfs.core.whiteout import DT_DIR, FUSE_OVERLAYFS_PREFIX, INO_SHIFT
from unionfs.errors import fs_error
from unionfs.interrupts import stop_if_abandoned
from unionfs.syscalls import xattr
from unionfs.syscalls.attributes import chmod_at, touch, utimens_at
from unionfs.syscalls.copyfile import copy_range, try_reflink
from unionfs.syscalls.writeback import begin_write_back, write_back

log = logging.getLogger(__name__)

# Copying more than this takes longer than handing it to a thread.
SLOW_BYTES = 256 << 10

_copies: dict[tuple[int, int], threading.Lock] = {}
_copies_lock = threading.Lock()


def is_slow_copy(state: State, size: int) -> bool:
    """Tell whether copying `size` bytes up would keep others waiting.

    Data that has to be on disk before it shows takes a disk's time.
    """
    return size > (SLOW_BYTES if state.config.volatile else 0)


def require_upper(state: State) -> Layer:
    """Return the upper layer; EROFS in a union that has none to write to."""
    if state.upper is None:
        raise fs_error(errno.EROFS)
    return state.upper


def in_upper(state: State, node: File) -> bool:
    """Tell whether the metadata of `node` lies in the upper."""
    return node.real.layer is state.upper


def source_bytes(node: File) -> int:
    """Return how many bytes of data lie in the lower behind `node`; 0 where it is gone."""
    real, name = node.data or (node.real, node.rname)
    try:
        return os.stat(name, dir_fd=real.fd(), follow_symlinks=False).st_size
    except OSError:
        return 0  # opening it will tell why


def copy_up_dir(state: State, d: Dir) -> RealDir:
    """Return the upper directory of `d`, making it and those above it where they are missing."""
    if d.upper is not None:
        return d.upper
    require_upper(state)
    missing: list[Dir] = []
    at = d
    while at.upper is None:
        missing.append(at)
        at = at.parent
    for below in reversed(missing):
        _copy_up_one_dir(state, below)
    assert d.upper is not None
    return d.upper


def _copy_up_one_dir(state: State, d: Dir) -> None:
    parent = d.parent
    with parent.lock:
        if d.upper is not None:
            return
        if d.dead or parent.upper is None:
            raise fs_error(errno.ENOENT)
        assert state.work is not None and state.upper is not None
        source = d.lowers[0]
        st = os.stat(source.fd())
        name = state.work.new_name()
        try:
            os.mkdir(name, 0o700, dir_fd=state.work.fd)
            staged = Fd(
                os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=state.work.fd)
            )
            origin = None
            if source.parent is not None:
                origin = origin_of(state, source.parent, source.name)
            copy_attributes(state, (source.fd(), None), (staged, None), st, origin)
            ino = os.stat(staged).st_ino
            publish_locked(state, parent, d.name, name)
        except BaseException:
            state.work.discard(name)
            raise
        upper = RealDir(state.upper, parent.upper, d.name)
        d.up, d.whiteouts = {}, set()
        d.merged = True
        d.upper = upper
        with state.table.lock:
            state.table.uppers.add(d)
        if parent.up is not None:
            parent.up[d.name] = ino << INO_SHIFT | DT_DIR
    state.counts["copy_ups"] += 1


def publish_locked(state: State, parent: Dir, name: bytes, staged: bytes) -> None:
    """Rename what is `staged` to `name` in the upper of `parent`, as if it had always been there.

    The times of the directory stay what they were.  The caller holds the lock
    of `parent`.
    """
    assert state.work is not None and parent.upper is not None
    fd = parent.upper.fd()
    before = os.stat(fd)
    mark_impure(state, parent)
    os.rename(staged, name, src_dir_fd=state.work.fd, dst_dir_fd=fd)
    try:
        utimens_at(fd, None, before.st_atime_ns, before.st_mtime_ns)
    except OSError as error:
        # It is done, and must not be taken for undone.
        log.error("the times of %r cannot be restored: %s", parent.upper.full_path(), error)


def mark_impure(state: State, parent: Dir) -> None:
    """Mark the upper directory as one whose entries may have another st_ino than their own."""
    if parent.impure or parent.upper is None:
        return
    # Only overlayfs's listing of this directory depends on it, and a
    # filesystem that has no room or no attributes can do without.
    with suppress(OSError):
        os.setxattr(parent.upper.fd(), state.marks.impure, b"y")
    parent.impure = True


def copy_up_file(
    state: State, node: File, *, size: int | None = None, metadata_only: bool = False
) -> None:
    """Give `node` its place in the upper, unless it has one.

    `size` is how many bytes of the data will still be wanted (0 for one about
    to be truncated), None for all.  With `metadata_only`, and the mount's
    metacopy option, the data stays in the lower.
    """
    if in_upper(state, node) and (node.data is None or metadata_only):
        return
    require_upper(state)
    with _lock_of(state, node):
        if in_upper(state, node):
            if node.data is not None and not metadata_only:
                _complete_data(state, node, size)
            return
        if not node.unlinked:
            copy_up_dir(state, node.parent)
        _copy_up_lower(state, node, size, metadata_only and state.config.metacopy)
    state.counts["copy_ups"] += 1


def _lock_of(state: State, node: File) -> threading.Lock:
    # One lock a copy in progress, found by inode: a slot in every inode would
    # be paid for by the hundred thousand that are never written.
    key = (id(state), node.nodeid)
    with _copies_lock:
        lock = _copies.get(key)
        if lock is None:
            if len(_copies) > 64:
                for idle in [k for k, other in _copies.items() if not other.locked()]:
                    del _copies[idle]
            lock = _copies[key] = threading.Lock()
        return lock


def _copy_up_lower(state: State, node: File, size: int | None, metacopy: bool) -> None:
    assert state.work is not None
    work = state.work
    source_fd, source_name = node.real.fd(), node.rname
    data_place = node.data or (node.real, node.rname)
    st = os.stat(source_name, dir_fd=source_fd, follow_symlinks=False)
    name = work.new_name()
    try:
        origin = origin_of(state, node.real, source_name)
        first = None
        linked = st.st_nlink > 1
        if linked and state.index is None:
            # The other links keep showing the lower's number; this copy cannot.
            origin = None
        elif linked:
            # What the other links are found by is the inode that they are links of.
            first, origin = origin, encode_origin(node.real.layer, source_fd, source_name)
        metacopy = metacopy and stat.S_ISREG(st.st_mode) and st.st_size > 0
        _stage(state, node, name, st, origin, None if metacopy else size, metacopy)
        if first is not None and first != origin:
            _set_xattr((work.fd, name), state.marks.first_origin, first)
        if metacopy:
            node.data = data_place
        names = st.st_nlink - node.lost.links
        if linked and state.index is not None and origin is not None and names > 0:
            delta = names - 1
            if not state.marks.fit(st.st_mode):
                state.index.note_delta(entry_name(origin), delta)
            elif delta:
                _set_xattr((work.fd, name), state.marks.nlink, encode_delta(delta))
            _publish_indexed(state, node, name, entry_name(origin), delta)
        else:
            _publish(state, node, name)
        if not metacopy:
            node.data = None
    except BaseException:
        work.discard(name)
        raise


def _stage(
    state: State,
    node: File,
    name: bytes,
    st: os.stat_result,
    origin: bytes | None,
    size: int | None,
    metacopy: bool,
) -> None:
    """Make a whole copy of `node` as `name` in the staging directory."""
    assert state.work is not None
    work_fd = state.work.fd
    source = (node.real.fd(), node.rname)
    if node.kind == stat.S_IFREG:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        staged = Fd(os.open(name, flags, 0o600, dir_fd=work_fd))
        if metacopy:
            os.ftruncate(staged, st.st_size)
            os.setxattr(staged, state.marks.metacopy, b"")
        else:
            copy_data(state, node, staged, size)
            if st.st_size and _is_ordered(state):
                begin_write_back(staged)  # the disk works while we do the rest
        copy_attributes(state, source, (staged, None), st, origin)
        if size is not None:
            # Not all of it is there, which must not show under the old mtime.
            touch(staged)
        if not metacopy and st.st_size:
            _secure_data(state, staged)
        return
    if node.kind == stat.S_IFLNK:
        os.symlink(os.readlink(source[1], dir_fd=source[0]), name, dir_fd=work_fd)
    else:
        os.mknod(name, node.kind | 0o600, st.st_rdev, dir_fd=work_fd)
    copy_attributes(state, source, (work_fd, name), st, origin)


def _secure_data(state: State, staged: int) -> None:
    """See to it that the data of `staged` is on disk when its name is."""
    if state.config.volatile:
        return
    with state.gate.outside():
        if _is_ordered(state):
            write_back(staged)  # without the commit of the journal that fsync waits for
        else:
            os.fsync(staged)


def _is_ordered(state: State) -> bool:
    return state.upper is not None and state.upper.ordered and not state.config.volatile


def copy_data(state: State, node: File, staged: int, size: int | None) -> None:
    """Copy the first `size` bytes of the data of `node`, all for None, into the file `staged`."""
    if size == 0:
        return
    real, name = node.data or (node.real, node.rname)
    source = open_untouched(name, real.fd())
    st = os.fstat(source)
    if not stat.S_ISREG(st.st_mode):
        raise fs_error(errno.EIO)
    length = st.st_size if size is None else min(size, st.st_size)
    if length == st.st_size and real.layer.reflinks and length > 0:
        if try_reflink(source, staged):
            return
        real.layer.reflinks = False
    holes = st.st_blocks * 512 < st.st_size
    if in_upper(state, node):
        # The metacopy gets its data in place, and is the upper's until it has.
        copy_range(source, staged, length, holes=holes, pause=stop_if_abandoned)
    else:
        with state.gate.outside():
            copy_range(source, staged, length, holes=holes, pause=stop_if_abandoned)


Place = tuple[int, bytes | None]  # a directory fd and a name in it, or an fd itself


def copy_attributes(
    state: State, source: Place, staged: Place, st: os.stat_result, origin: bytes | None
) -> None:
    """Give `staged` the owner, attributes, mode and times of `source`, and its origin mark."""
    fd, name = staged
    if name is None:
        os.chown(fd, st.st_uid, st.st_gid)
    else:
        os.chown(name, st.st_uid, st.st_gid, dir_fd=fd, follow_symlinks=False)
    _copy_xattrs(state, source, staged)
    if origin is not None:
        _set_xattr(staged, state.marks.origin, origin)
    if not stat.S_ISLNK(st.st_mode):
        if name is None:
            os.chmod(fd, stat.S_IMODE(st.st_mode))
        else:
            chmod_at(fd, name, stat.S_IMODE(st.st_mode))
    utimens_at(fd, name, st.st_atime_ns, st.st_mtime_ns)


def _copy_xattrs(state: State, source: Place, staged: Place) -> None:
    fd, name = source
    present = xattr.list_fd(fd) if name is None else xattr.list_at(fd, name)
    private = (state.marks.prefix, FUSE_OVERLAYFS_PREFIX)
    for attribute in present:
        # What a user set under a private name is stored escaped, and goes along.
        if attribute.startswith(private) and not attribute.startswith(state.marks.escaped):
            continue
        raw = attribute.encode(errors="surrogateescape")
        value = xattr.get_fd(fd, raw) if name is None else xattr.get_at(fd, name, raw)
        if value is not None:
            _set_xattr(staged, attribute, value)


def _set_xattr(staged: Place, attribute: str, value: bytes) -> None:
    fd, name = staged
    try:
        if name is None:
            os.setxattr(fd, attribute, value)
        else:
            os.setxattr(xattr.at(fd, name), attribute, value, follow_symlinks=False)
    except OSError as error:
        # user.* has no place on links and devices, and what only the
        # filesystem of the lower can store (or only a privileged daemon may
        # write) is not worth failing the write of a file for.
        if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
            raise


def _publish(state: State, node: File, staged: bytes) -> None:
    """Rename the staged copy to where `node` is now, or keep it nameless if it is nowhere."""
    assert state.work is not None and state.upper is not None
    st = os.stat(staged, dir_fd=state.work.fd, follow_symlinks=False)
    while True:
        parent, name = node.parent, node.name
        if node.unlinked:
            orphan = open_path(staged, state.work.fd)
            node.rino = st.st_ino
            state.table.make_orphan(node, state.nowhere, orphan)
            os.unlink(staged, dir_fd=state.work.fd)
            break
        copy_up_dir(state, parent)
        with parent.lock:
            if node.unlinked or (node.parent, node.name) != (parent, name):
                continue
            publish_locked(state, parent, name, staged)
            settle_locked(state, node, parent, name, st)
            break
    node.changed += 1
    node.small = 0  # for good: the kernel may have pages of before


def settle_locked(state: State, node: File, parent: Dir, name: bytes, st: os.stat_result) -> None:
    """Note that `node`, as `name` in `parent`, is the upper file with the attributes `st`."""
    assert parent.upper is not None
    node.rino = st.st_ino
    node.rname = name
    node.real = parent.upper
    if parent.up is not None:
        parent.up[name] = st.st_ino << INO_SHIFT | stat.S_IFMT(st.st_mode) >> 12


def _publish_indexed(state: State, node: File, staged: bytes, entry: bytes, delta: int) -> None:
    """Enter the staged copy into the index, and link it to where `node` is now.

    `delta` is how many more names the union has than the index, which has one.
    A file that lost the name it was known by has others still, which lead to
    it by the index.
    """
    assert state.work is not None and state.index is not None and state.upper is not None
    os.rename(staged, entry, src_dir_fd=state.work.fd, dst_dir_fd=state.index.fd)
    st = os.stat(entry, dir_fd=state.index.fd, follow_symlinks=False)
    state.index.add(entry, st.st_ino)
    place = state.index_dir()
    with state.table.lock:
        if node.key is not None and state.table.by_key.get(node.key) is node:
            del state.table.by_key[node.key]
            state.lost.forget(node.key)
        node.key = (st.st_dev, st.st_ino)
        state.table.by_key[node.key] = node
    node.nlink_delta, node.lost = delta, NOTHING_LOST
    node.rino, node.rname, node.real = st.st_ino, entry, place
    node.changed += 1
    node.small = 0
    if not node.unlinked:
        link_up(state, node, node.parent, node.name)


def link_up(state: State, node: File, parent: Dir, name: bytes) -> None:
    """Give an indexed file the upper name that it has in the union: `name` in `parent`."""
    assert state.work is not None
    copy_up_dir(state, parent)
    with parent.lock:
        if parent.kids.get(name) is not node or parent.up is None or name in parent.up:
            return
        staged = state.work.new_name()
        fd = node.real.fd()
        st = os.stat(node.rname, dir_fd=fd, follow_symlinks=False)
        os.link(node.rname, staged, src_dir_fd=fd, dst_dir_fd=state.work.fd, follow_symlinks=False)
        try:
            publish_locked(state, parent, name, staged)
        except BaseException:
            state.work.discard(staged)
            raise
        settle_locked(state, node, parent, name, st)
        set_delta(state, node, node.nlink_delta - 1)
        if (node.parent, node.name) != (parent, name):
            swap_place(node, parent, name)


def swap_place(node: File, parent: Dir, name: bytes) -> None:
    """Make `name` in `parent`, one of its aliases, the place of `node`."""
    aliases = [alias for alias in node.aliases or () if alias != (parent, name)]
    aliases.append((node.parent, node.name))
    node.parent, node.name, node.aliases = parent, name, aliases


def set_delta(state: State, node: File, delta: int) -> None:
    """Record how the union's count of links differs from the upper inode's own.

    To be called when the names are what the count will say: a crash before may
    leave it too high, but never too low, by which programs that copy would
    miss that names belong together.
    """
    node.nlink_delta = delta
    if node.orphan is not None:
        return
    place = (node.real.fd(), node.rname)
    try:
        if state.marks.fit(node.kind):
            _set_xattr(place, state.marks.nlink, encode_delta(delta))
        elif state.index is not None:
            st = os.stat(node.rname, dir_fd=place[0], follow_symlinks=False)
            entry = state.index.entry_of(*place, st)
            if entry is not None:
                state.index.note_delta(entry, delta)
    except OSError as error:
        log.error("the link count of %r stays too high: %s", node.name, error)


def redirect_data(state: State, node: File) -> None:
    """Note on a metacopy where its data lies, before it gets another name."""
    if node.data is None or not in_upper(state, node):
        return
    with at_rest(node) as (fd, name):
        if name is not None and state.marks.redirect not in xattr.list_at(fd, name):
            value = b"/" + b"/".join(lower_names(node))
            os.setxattr(xattr.at(fd, name), state.marks.redirect, value, follow_symlinks=False)


def is_cut_short(state: State, node: File) -> bool:
    """Tell whether a crash left `node` a metacopy that was truncated, its data not yet."""
    if node.data is None or not in_upper(state, node):
        return False
    return stat_node(state, node).st_size != source_bytes(node)


def _complete_data(state: State, node: File, size: int | None) -> None:
    """Bring the data of a metacopy into the upper.

    The upper file gets its bytes in place, and loses its mark when they are
    safe; before that its data is still the lower's, as far as its own size
    goes, so a crash harms nothing.
    """
    fd = open_node(state, node, os.O_RDWR, metacopy=True)
    before = os.fstat(fd)
    present = xattr.list_fd(fd)
    capability = xattr.get_fd(fd, b"security.capability")
    kept = before.st_size if size is None else min(size, before.st_size)
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
