"""create, mkdir, mknod, symlink, link, unlink and rmdir.

Decided here and only here: how a name comes into a merged directory and how it
leaves it.  Something new is made in the upper directory itself, under the ids of
the caller, so that the filesystem applies its own rules of set-group-id and
default ACLs; in the place of a whiteout it is staged and renamed over.

Source: overlayfs.rst "whiteouts and opaque directories"; fs/overlayfs/dir.c.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable

from unionfs.core.copy_up import (
    copy_up_dir,
    copy_up_file,
    in_upper,
    mark_impure,
    redirect_data,
    require_upper,
    set_delta,
)
from unionfs.core.inode import Dir, File, Lost, Node, union_ino
from unionfs.core.layer import Fd, RealDir, open_path
from unionfs.core.lookup import Found, add_alias, load_locked, lookup_locked, reread_later
from unionfs.core.origin import encode_origin
from unionfs.core.state import State
from unionfs.core.whiteout import AUFS_PREFIX, INO_SHIFT
from unionfs.core.whiteout_ops import (
    add_whiteout,
    place_over_whiteout,
    remove_entry,
    replace_by_whiteout,
)
from unionfs.errors import fs_error
from unionfs.syscalls import xattr

log = logging.getLogger(__name__)

DEFAULT_ACL = "system.posix_acl_default"

Maker = Callable[[int, bytes, int], Fd | None]  # dir_fd, name, mode


def check_new_name(name: bytes) -> None:
    """Raise the error a name cannot be created with.

    EPERM for names that begin with `.wh.`: on disk those are AUFS's marks.
    """
    if len(name) > 255:
        raise fs_error(errno.ENAMETOOLONG)
    if name.startswith(AUFS_PREFIX):
        raise OSError(errno.EPERM, "names that begin with .wh. are reserved for whiteouts")


def make(
    state: State,
    parent: Dir,
    name: bytes,
    mode: int,
    umask: int,
    uid: int,
    gid: int,
    maker: Maker,
) -> tuple[Found, Fd | None]:
    """Make `name` in `parent` with `maker`; return the new inode and the fd it was opened as."""
    check_new_name(name)
    require_upper(state)
    copy_up_dir(state, parent)
    with parent.lock:
        load_locked(state, parent)
        if parent.dead:
            raise fs_error(errno.ENOENT)
        if parent.holds(name):
            raise fs_error(errno.EEXIST)
        if umask and not _has_default_acl(state, parent):
            mode &= ~umask
        assert parent.upper is not None
        upper_fd = parent.upper.fd()
        try:
            if name in parent.whiteouts:
                fd, st = _make_staged(state, parent, name, mode, uid, gid, maker)
            else:
                with state.owners.creating(uid, gid):
                    fd = maker(upper_fd, name, mode)
                st = os.fstat(fd) if fd is not None else _lstat(upper_fd, name)
        except OSError:
            reread_later(parent)
            raise
        found = enter_locked(state, parent, name, st)
        if fd is not None:
            assert isinstance(found[0], File)
            found[0].bare = True
        return found, fd


def enter_locked(state: State, parent: Dir, name: bytes, st: os.stat_result) -> Found:
    """Enter the inode just made as `name` in the upper of `parent`, with one reference."""
    assert parent.upper is not None and parent.up is not None
    parent.up[name] = st.st_ino << INO_SHIFT | stat.S_IFMT(st.st_mode) >> 12
    node: Node
    if stat.S_ISDIR(st.st_mode):
        node = Dir(parent, name, RealDir(parent.upper.layer, parent.upper, name), ())
        node.up, node.low = {}, {}
    else:
        node = File(parent, name, parent.upper, st)
    with state.table.lock:
        state.table.add_locked(node, union_ino(parent.upper.layer, st.st_ino))
        node.nlookup = 1
        parent.kids[name] = node
        if isinstance(node, Dir):
            state.table.uppers.add(node)
    return node, st


def _make_staged(
    state: State, parent: Dir, name: bytes, mode: int, uid: int, gid: int, maker: Maker
) -> tuple[Fd | None, os.stat_result]:
    """Make `name` in the place of a whiteout; a directory is opaque from the first."""
    assert state.work is not None and parent.upper is not None
    work = state.work
    staged = work.new_name()
    shelter = None
    try:
        upper_st = os.stat(parent.upper.fd())
        if upper_st.st_mode & stat.S_ISGID or _has_default_acl(state, parent):
            shelter = work.new_name()
            _make_twin(state, parent.upper.fd(), shelter)
            place = Fd(os.open(shelter, os.O_RDONLY | os.O_DIRECTORY, dir_fd=work.fd))
        else:
            place = work.fd
        with state.owners.creating(uid, gid):
            fd = maker(place, staged, mode)
        is_dir = stat.S_ISDIR(mode)
        if is_dir:
            os.setxattr(xattr.at(place, staged), state.marks.opaque, b"y")
        if shelter is not None:
            os.rename(staged, staged, src_dir_fd=place, dst_dir_fd=work.fd)
        place_over_whiteout(state, parent, name, staged, is_dir=is_dir)
    except BaseException:
        work.discard(staged)
        raise
    finally:
        if shelter is not None:
            work.discard(shelter)
    return fd, _lstat(parent.upper.fd(), name)


def _make_twin(state: State, upper_fd: int, name: bytes) -> None:
    """Stage a directory that hands down what the directory `upper_fd` would.

    Group and default ACL are inherited at creation, from wherever that takes place.
    """
    assert state.work is not None
    st = os.stat(upper_fd)
    os.mkdir(name, 0o700, dir_fd=state.work.fd)
    target = xattr.at(state.work.fd, name)
    acl = xattr.get_fd(upper_fd, DEFAULT_ACL.encode())
    if acl is not None:
        os.setxattr(target, DEFAULT_ACL, acl)
    if st.st_mode & stat.S_ISGID:
        os.chown(name, -1, st.st_gid, dir_fd=state.work.fd)
    if acl is not None or st.st_mode & stat.S_ISGID:
        os.chmod(target, 0o700 | st.st_mode & stat.S_ISGID)


def _has_default_acl(state: State, d: Dir) -> bool:
    if d.default_acl is None:
        assert d.upper is not None
        d.default_acl = DEFAULT_ACL in xattr.list_fd(d.upper.fd())
    return d.default_acl


def make_file(flags: int) -> Maker:
    """Return a maker of regular files, opened with `flags`."""
    flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

    def maker(dir_fd: int, name: bytes, mode: int) -> Fd:
        return Fd(os.open(name, flags, mode, dir_fd=dir_fd))

    return maker


def make_directory(dir_fd: int, name: bytes, mode: int) -> None:
    """Make a directory."""
    os.mkdir(name, mode, dir_fd=dir_fd)


def make_node(rdev: int) -> Maker:
    """Return a maker of devices, fifos, sockets and unopened regular files.

    It raises EPERM for a character device 0:0, which on disk is a whiteout.
    """

    def maker(dir_fd: int, name: bytes, mode: int) -> None:
        if stat.S_ISCHR(mode) and rdev == 0:
            raise OSError(errno.EPERM, "a character device 0:0 is a whiteout")
        os.mknod(name, mode, rdev, dir_fd=dir_fd)

    return maker


def make_symlink(target: bytes) -> Maker:
    """Return a maker of symbolic links."""

    def maker(dir_fd: int, name: bytes, mode: int) -> None:
        os.symlink(target, name, dir_fd=dir_fd)

    return maker


def make_nameless(
    state: State, parent: Dir, mode: int, flags: int, umask: int, uid: int, gid: int
) -> tuple[File, os.stat_result, Fd]:
    """Make a regular file without a name in `parent`, opened with `flags`.

    Source: open(2) "O_TMPFILE".
    """
    upper = copy_up_dir(state, parent)
    if umask and not _has_default_acl(state, parent):
        mode &= ~umask
    with state.owners.creating(uid, gid):
        fd = Fd(os.open(b".", flags | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=upper.fd()))
    st = os.fstat(fd)
    node = File(parent, b"", upper, st)
    with state.table.lock:
        state.table.add_locked(node, union_ino(upper.layer, st.st_ino))
        node.nlookup = 1
    orphan = Fd(os.open(b"/proc/self/fd/%d" % fd, os.O_PATH | os.O_CLOEXEC))
    state.table.make_orphan(node, state.nowhere, orphan)
    return node, st, fd


def link(state: State, node: File, parent: Dir, name: bytes) -> Found:
    """Make `name` in `parent` one more hard link of `node`."""
    check_new_name(name)
    require_upper(state)
    copy_up_file(state, node, metadata_only=True)
    redirect_data(state, node)
    copy_up_dir(state, parent)
    assert state.work is not None
    with parent.lock:
        load_locked(state, parent)
        if parent.dead or (node.unlinked and node.orphan is None):
            raise fs_error(errno.ENOENT)
        if parent.holds(name):
            raise fs_error(errno.EEXIST)
        assert parent.upper is not None
        fd = parent.upper.fd()
        if node.key is None:
            with state.table.lock:
                node.key = (parent.upper.layer.dev, node.rino)
                state.table.by_key[node.key] = node
        try:
            if name in parent.whiteouts:
                staged = state.work.new_name()
                _link_real(node, state.work.fd, staged)
                place_over_whiteout(state, parent, name, staged, is_dir=False)
            else:
                _link_real(node, fd, name)
            st = _lstat(fd, name)
        except OSError:
            reread_later(parent)
            raise
        if st.st_ino != node.rino:
            # The file was renamed and its name given away meanwhile; the
            # kernel looks it up again.
            os.unlink(name, dir_fd=fd)
            raise fs_error(errno.ESTALE)
        assert parent.up is not None
        parent.up[name] = st.st_ino << INO_SHIFT | stat.S_IFMT(st.st_mode) >> 12
        if node.st_ino != union_ino(parent.upper.layer, st.st_ino):
            mark_impure(state, parent)
        with state.table.lock:
            add_alias(node, parent, name, parent.upper, name)
    return node, st


def _link_real(node: File, dir_fd: int, name: bytes) -> None:
    """Make `name` beneath `dir_fd` a hard link of the upper file of `node`.

    One without a name has to be an O_TMPFILE, else link(2) gives ENOENT.
    """
    if node.orphan is None:
        source_fd = node.real.fd()
        os.link(node.rname, name, src_dir_fd=source_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
    else:
        os.link(b"/proc/self/fd/%d" % node.orphan, name, dst_dir_fd=dir_fd, follow_symlinks=True)


def unlink(state: State, parent: Dir, name: bytes) -> None:
    """Remove the name of a file; where a lower has it too, hide that with a whiteout."""
    require_upper(state)
    while True:
        with parent.lock:
            found = lookup_locked(state, parent, name)
            if found is None:
                raise fs_error(errno.ENOENT)
            node = found[0]
            if not isinstance(node, File):
                raise fs_error(errno.EISDIR)
            assert parent.up is not None and parent.low is not None
            if parent.upper is not None:
                _unlink_locked(state, parent, name, node)
                return
        copy_up_dir(state, parent)


def _unlink_locked(state: State, parent: Dir, name: bytes, node: File) -> None:
    assert parent.up is not None and parent.low is not None
    leaving = leave_name_locked(state, node, parent, name)
    if name not in parent.up:
        add_whiteout(state, parent, name)
    elif name in parent.low:
        replace_by_whiteout(state, parent, name, is_dir=False)
    else:
        remove_entry(state, parent, name, is_dir=False)
    leaving()


def leave_name_locked(state: State, node: File, parent: Dir, name: bytes) -> Callable[[], None]:
    """Prepare `node` for losing `name` in `parent`; return what to do once it has.

    A file that loses its last known name is kept alive by an fd: the kernel may
    still refer to it, by an open handle or without our knowing.
    """
    assert parent.up is not None
    upper_name = name in parent.up
    rest = [
        (other, alias)
        for other, alias in [(node.parent, node.name), *(node.aliases or ())]
        if (other, alias) != (parent, name)
    ]
    orphan = place = None
    if in_upper(state, node):
        if rest:
            place = _place_without(state, node, rest)
        else:
            orphan = open_path(node.rname, node.real.fd())

    def done() -> None:
        if parent.kids.get(name) is node:
            del parent.kids[name]
        if in_upper(state, node) and not upper_name:
            # The upper inode keeps its links; the union has one less.
            set_delta(state, node, node.nlink_delta - 1)
        if not in_upper(state, node):
            _lose_link(state, node, parent)
        if rest:
            node.parent, node.name = rest[0]
            node.aliases = rest[1:] or None
            if place is not None:
                node.real, node.rname = place
            return
        if orphan is None:
            node.unlinked = True
        else:
            state.table.make_orphan(node, state.nowhere, orphan)
            _drop_index_entry(state, node, orphan)

    return done


def _lose_link(state: State, node: File, parent: Dir) -> None:
    """Count one link less of a lower file, which lost one to a change of `parent`."""
    if node.key is None:
        node.lost = Lost(node.lost.links + 1, time.time_ns())
        return
    assert parent.upper is not None
    origin = None
    now = time.time_ns()
    try:
        origin = encode_origin(node.real.layer, node.real.fd(), node.rname)
        now = os.stat(parent.upper.fd()).st_ctime_ns  # the filesystem's own clock
    except OSError as error:
        log.error("the link count of %r will be too high after a remount: %s", node.name, error)
    node.lost = state.lost.add(node.key, origin, now)


def _place_without(
    state: State, node: File, rest: list[tuple[Dir, bytes]]
) -> tuple[RealDir, bytes]:
    """Return a real place of the upper file `node` that it keeps with the names in `rest`.

    Where the upper has none of those names, for they are links of the lower
    file that was copied up, it is the index entry that leads from them to it.
    """
    for parent, name in rest:
        if parent.up is not None and name in parent.up and parent.upper is not None:
            return parent.upper, name
    if state.index:
        dir_fd = node.real.fd()
        entry = state.index.entry_of(dir_fd, node.rname, _lstat(dir_fd, node.rname))
        if entry is not None:
            state.index.used.add(entry)
            return state.index_dir(), entry
    return node.real, node.rname


def _drop_index_entry(state: State, node: File, orphan: Fd) -> None:
    """Remove the index entry, if any, of a file that has no name in the union any more."""
    if not state.index or node.key is None:
        return
    # Whoever gives the upper a name that the lower had writes the count last,
    # so in this order the sum is never too low.
    delta = node.nlink_delta
    try:
        st = os.stat(orphan)
        if st.st_nlink + delta > 0:
            return
        entry = state.index.entry_of(orphan, None, st)
        if entry is not None and state.index.remove(entry):
            node.nlink_delta += 1
    except OSError as error:
        # The names are gone; nothing leads to what is left of it.
        log.error("an index entry of no use stays: %s", error)


def rmdir(state: State, parent: Dir, name: bytes) -> None:
    """Remove an empty merged directory."""
    require_upper(state)
    while True:
        with parent.lock:
            found = lookup_locked(state, parent, name)
            if found is None:
                raise fs_error(errno.ENOENT)
            d = found[0]
            if not isinstance(d, Dir):
                raise fs_error(errno.ENOTDIR)
            if parent.upper is not None:
                with d.lock:
                    load_locked(state, d)
                    if not d.is_empty():
                        raise fs_error(errno.ENOTEMPTY)
                    _rmdir_locked(state, parent, name, d)
                return
        copy_up_dir(state, parent)


def _rmdir_locked(state: State, parent: Dir, name: bytes, d: Dir) -> None:
    assert parent.up is not None and parent.low is not None
    leaving = leave_dir_locked(d)
    if name not in parent.up:
        add_whiteout(state, parent, name)
    elif name in parent.low:
        replace_by_whiteout(state, parent, name, is_dir=True)
    else:
        remove_entry(state, parent, name, is_dir=True)
    leaving()
    if parent.kids.get(name) is d:
        del parent.kids[name]


def leave_dir_locked(d: Dir) -> Callable[[], None]:
    """Prepare `d` for being removed; return what to do once it is.

    Its fd is kept, for those who stand in it.
    """
    real = d.top()
    fd = real.fd()

    def done() -> None:
        real.pin(fd)
        d.dead = True
        d.up, d.low, d.low_dirs, d.whiteouts = {}, {}, {}, set()

    return done


def _lstat(dir_fd: int, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
