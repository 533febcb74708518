"""create, mkdir, mknod, symlink and link: how a name is added to a merged directory.

Decided here and only here: where a new file is made, and with which rights.  A new file or
directory is made in the upper directory itself, with the ids of the caller, so that the
filesystem applies its own rules for set-group-id and default ACLs.  In place of a whiteout
it is staged and then renamed over it, and so is one whose owner is in an attribute: a crash
leaves it with its attribute, or not at all.

Source: overlayfs.rst "whiteouts and opaque directories"; fs/overlayfs/dir.c.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from unionfs.core.copy_up import copy_up_dir, copy_up_file, mark_impure, redirect_data
from unionfs.core.file import SUID_SGID, Handle, real_flags
from unionfs.core.inode import ABSENT, WHITED_OUT, Dir, File, Node, empty, union_ino
from unionfs.core.layer import OUT_OF_FDS, Fd, RealDir, lstat_at, open_dir
from unionfs.core.lookup import NodeStat, add_alias, load_locked, reread_name_locked
from unionfs.core.marks_on_disk import secure_marks, waits_for_marks
from unionfs.core.metadata import set_mark
from unionfs.core.owner_rights import as_owner
from unionfs.core.state import State
from unionfs.core.whiteout import AUFS_PREFIX, DT_DIR, TYPE_MASK, upper_entry
from unionfs.core.whiteout_ops import place_over_whiteout
from unionfs.core.workdir import WorkDir
from unionfs.core.xattr_ids import DEFAULT_ACL
from unionfs.errors import fs_error
from unionfs.light_logging import Logger
from unionfs.light_typing import NamedTuple
from unionfs.syscalls import xattr
from unionfs.syscalls.attributes import chmod
from unionfs.syscalls.lowered import keeping_sgid
from unionfs.syscalls.renameat2 import RENAME_NOREPLACE, renameat2

log = Logger(__name__)

_SGID = stat.S_ISGID
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Maker = Callable[[int, bytes, int], Fd | None]  # dir_fd, name, mode


class NewInode(NamedTuple):
    """What is asked of a new inode: type and mode, the caller's umask, and the caller's ids."""

    mode: int
    umask: int
    uid: int
    gid: int


def check_new_name(name: bytes) -> None:
    """Raise an error if nothing can be created with this name.

    ENAMETOOLONG for more than 255 bytes; EPERM for a name that begins with `.wh.`,
    which on disk is an AUFS mark.
    """
    if len(name) > 255:
        raise fs_error(errno.ENAMETOOLONG)
    if name.startswith(AUFS_PREFIX):
        raise OSError(errno.EPERM, "names that begin with .wh. are reserved for whiteouts")


def make(
    state: State, parent: Dir, name: bytes, new: NewInode, maker: Maker
) -> tuple[NodeStat, Fd | None]:
    """Make `name` in `parent` with `maker`; return the new inode, and its fd if it was opened."""
    check_new_name(name)
    mode, umask, uid, gid = new
    if mode & _SGID:
        maker = _with_sgid(maker)
    upper = parent.upper or copy_up_dir(state, parent)
    with parent.lock:
        found = load_locked(state, parent).find(name)
        if parent.dead:
            raise fs_error(errno.ENOENT)
        if found is not ABSENT and found is not WHITED_OUT:
            raise fs_error(errno.EEXIST)
        upper_fd = upper.fd()
        if umask and not _has_default_acl(upper_fd, parent):
            mode &= ~umask
        gives = state.owners.gives_to(uid, gid)
        staged = state.owners.in_attributes or (gives and _server_checks(state))
        try:
            if found is WHITED_OUT or staged:
                new = NewInode(mode, 0, uid, gid)
                fd, st = _make_staged(state, parent, name, new, maker, found is WHITED_OUT)
            else:
                if gives:
                    with state.owners.creating(uid, gid):
                        fd = maker(upper_fd, name, mode)
                else:
                    fd = maker(upper_fd, name, mode)
                st = os.fstat(fd) if fd is not None else lstat_at(upper_fd, name)
        except OSError:
            reread_name_locked(state, parent, name)
            raise
        node = enter_locked(state, parent, name, st)
        if isinstance(node, File):
            node.bare = fd is not None
        return (node, st), fd


def _with_sgid(maker: Maker) -> Maker:
    """Return `maker`, for a file that keeps its sgid in a directory of another group."""

    def make_with_sgid(dir_fd: int, name: bytes, mode: int) -> Fd | None:
        with keeping_sgid(mode):
            return maker(dir_fd, name, mode)

    return make_with_sgid


def enter_locked(state: State, parent: Dir, name: bytes, st: os.stat_result) -> Node:
    """Enter the inode just made as `name` in the upper of `parent`, with one reference."""
    upper = parent.require_upper()
    packed = upper_entry(st)
    parent.note_upper(name, packed)
    parent.kept_ctime = None
    node: Node
    if packed & TYPE_MASK == DT_DIR:
        node = Dir(parent, name, RealDir(upper.layer, upper, name), ())
        node.loaded = empty()
    else:
        node = File(parent, name, upper, st)
    with state.table.lock:
        state.table.add_locked(node, union_ino(upper.layer, st.st_ino))
        node.nlookup = 1
        parent.kids[name] = node
        if type(node) is Dir:
            state.table.uppers.add(node)
    return node


def _server_checks(state: State) -> bool:
    """Tell whether a file of another user has to be made as root, and given to that user then.

    An NFS server judges by the fsuid and ignores the capabilities of the thread.  So another user
    cannot create a file in the workdir, or anywhere by the rights of a group that the daemon is
    not in.
    """
    return not state.require_upper().exchanges


def _give(state: State, place: Fd, name: bytes, new: NewInode) -> None:
    """Give what was just made beneath `place` to its user, and its group unless it inherits one."""
    inherits = os.stat(place).st_mode & stat.S_ISGID
    uid = state.owners.stored_uid(new.uid)
    gid = -1 if inherits else state.owners.stored_gid(new.gid)
    os.chown(name, uid, gid, dir_fd=place, follow_symlinks=False)
    if not stat.S_ISLNK(new.mode) and new.mode & (stat.S_ISUID | stat.S_ISGID):
        kept = os.stat(name, dir_fd=place, follow_symlinks=False).st_mode | new.mode
        os.chmod(name, stat.S_IMODE(kept), dir_fd=place)


def _make_staged(
    state: State, parent: Dir, name: bytes, new: NewInode, maker: Maker, whited_out: bool
) -> tuple[Fd | None, os.stat_result]:
    """Make `name` in the staging directory and rename it into the upper of `parent`.

    If `whited_out`, it takes the place of a whiteout; a directory is opaque before it is visible.
    The umask is applied already.
    """
    work, upper_fd = state.require_upper().work, parent.require_upper().fd()
    staged = work.new_name()
    shelter = None
    try:
        if _has_default_acl(upper_fd, parent) or _hands_on_group(state, upper_fd):
            shelter = work.new_name()
            place = _make_twin(work, upper_fd, shelter)
        else:
            place = work.fd
        if state.owners.gives_to(new.uid, new.gid) and _server_checks(state):
            fd = maker(place, staged, new.mode)
            _give(state, place, staged, new)
        else:
            with state.owners.creating(new.uid, new.gid):
                fd = maker(place, staged, new.mode)
        is_dir = stat.S_ISDIR(new.mode)
        if is_dir and whited_out:
            _make_opaque(state, place, staged)
        if shelter is not None:
            as_owner(
                lambda: os.rename(staged, staged, src_dir_fd=place, dst_dir_fd=work.fd),
                (place, staged),
            )
        if whited_out:
            place_over_whiteout(state, parent, name, staged, is_dir=is_dir)
        else:
            _rename_new(work.fd, staged, upper_fd, name)
    except BaseException:
        work.discard(staged)
        raise
    finally:
        if shelter is not None:
            work.discard(shelter)
    return fd, os.fstat(fd) if fd is not None else lstat_at(upper_fd, name)


def _rename_new(work_fd: int, staged: bytes, dir_fd: int, name: bytes) -> None:
    """Rename `staged` to `name` beneath `dir_fd`, where nothing is, as far as this mount knows."""
    try:
        renameat2(work_fd, staged, dir_fd, name, RENAME_NOREPLACE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        os.rename(staged, name, src_dir_fd=work_fd, dst_dir_fd=dir_fd)


def _hands_on_group(state: State, upper_fd: int) -> bool:
    """Tell whether new files inherit the group of the real directory `upper_fd`, as its sgid says.

    That of a group in an attribute says nothing about the real file.
    """
    return not state.owners.in_attributes and bool(os.stat(upper_fd).st_mode & stat.S_ISGID)


def _make_opaque(state: State, place: int, staged: bytes) -> None:
    set_mark((place, staged), state.marks.opaque, b"y")
    if waits_for_marks(state):
        fd = as_owner(lambda: open_dir(staged, place), (place, staged))
        secure_marks(state, fd)


def _make_twin(work: WorkDir, upper_fd: int, name: bytes) -> Fd:
    """Stage a directory from which children inherit the same as from the directory `upper_fd`.

    A new file inherits group and default ACL from the directory that it is created in.
    """
    st = os.stat(upper_fd)
    twin = work.make_dir(name)
    acl = xattr.get_fd(upper_fd, DEFAULT_ACL.encode())
    if acl is not None:
        os.setxattr(twin, DEFAULT_ACL, acl)
    if st.st_mode & stat.S_ISGID:
        os.chown(twin, -1, st.st_gid)
    if acl is not None or st.st_mode & stat.S_ISGID:
        chmod(twin, 0o700 | st.st_mode & stat.S_ISGID)
    return twin


def _has_default_acl(upper_fd: int, d: Dir) -> bool:
    if d.default_acl is None:
        d.default_acl = DEFAULT_ACL in xattr.list_fd(upper_fd)
    return d.default_acl


def create(
    state: State, parent: Dir, name: bytes, new: NewInode, maker: Maker
) -> tuple[File, os.stat_result, Fd]:
    """Make the regular file `name` in `parent` with `maker`, which opens it; return the fd too."""
    (node, st), fd = make(state, parent, name, new, maker)
    assert isinstance(node, File) and fd is not None
    return node, st, fd


def create_plain(
    state: State, parent: Dir, name: bytes, mode: int, flags: int, umask: int
) -> tuple[Handle, os.stat_result] | None:
    """Make a regular file of the daemon's own user, where nothing has the name.

    Returns its first handle, opened with `flags`, and its attributes.  Returns None, with nothing
    done, if something has the name, or if a new file inherits more than a mode; `create` then
    makes it.  Most files are made so, and each needs no more than open(2) and fstat(2).
    """
    if mode & _SGID or (umask and parent.default_acl is not False):
        return None
    check_new_name(name)
    with parent.lock:
        loaded, upper = parent.loaded, parent.upper
        if loaded is None or upper is None or parent.dead or not state.layers_immutable:
            return None
        # Not `Loaded.find`: a call takes time.
        if name in loaded.upper or name in loaded.whiteouts or name in loaded.lower:
            return None
        try:
            fd = Fd(os.open(name, real_flags(flags) | _NEW, mode & ~umask, dir_fd=upper.fd()))
            st = os.fstat(fd)
        except OSError as error:
            if error.errno in OUT_OF_FDS:
                return None
            reread_name_locked(state, parent, name)
            raise
        # As `enter_locked` and `OpenFiles.add` do.
        node = File(parent, name, upper, st)
        node.bare = True
        node.nlookup = node.opened = 1
        handle = node.handle = Handle(node, fd, flags)
        handle.plain = not st.st_mode & SUID_SGID
        loaded.upper[name] = upper_entry(st)
        parent.kept_ctime = None
        table = state.table
        with table.lock:
            table.add_locked(node, union_ino(upper.layer, st.st_ino))
            parent.kids[name] = node
    return handle, st


def make_file(state: State, flags: int) -> Maker:
    """Return a maker of regular files, opened with `flags`."""
    flags |= _NEW

    def maker(dir_fd: int, name: bytes, mode: int) -> Fd:
        def opener(name: bytes, dir_fd: int) -> Fd:
            return Fd(os.open(name, flags, mode, dir_fd=dir_fd))

        return state.with_room(opener, name, dir_fd)

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
    state: State, parent: Dir, new: NewInode, flags: int
) -> tuple[File, os.stat_result, Fd]:
    """Make a regular file without a name in `parent`, opened with `flags`.

    Source: open(2) "O_TMPFILE".
    """
    writable = state.require_upper()
    upper = copy_up_dir(state, parent)
    mode = new.mode
    if new.umask and not _has_default_acl(upper.fd(), parent):
        mode &= ~new.umask
    with state.owners.creating(new.uid, new.gid), keeping_sgid(mode):
        fd = Fd(os.open(b".", flags | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=upper.fd()))
    st = os.fstat(fd)
    node = File(parent, b"", upper, st)
    with state.table.lock:
        state.table.add_locked(node, union_ino(upper.layer, st.st_ino))
        node.nlookup = 1
    state.table.make_orphan(node, writable.unnamed_place, fd)
    return node, st, fd


def link(state: State, node: File, parent: Dir, name: bytes) -> NodeStat:
    """Make `name` in `parent` one more hard link of `node`."""
    check_new_name(name)
    work = state.require_upper().work
    copy_up_file(state, node, metadata_only=True)
    redirect_data(state, node)
    copy_up_dir(state, parent)
    with parent.lock:
        found = load_locked(state, parent).find(name)
        if parent.dead or (node.unlinked and node.orphan is None):
            raise fs_error(errno.ENOENT)
        if found is not ABSENT and found is not WHITED_OUT:
            raise fs_error(errno.EEXIST)
        upper = parent.require_upper()
        fd = upper.fd()
        if node.key is None:
            with state.table.lock:
                node.key = (upper.layer.dev, node.rino)
                state.table.by_key[node.key] = node
        try:
            if found is WHITED_OUT:
                staged = work.new_name()
                _link_real(node, work.fd, staged)
                place_over_whiteout(state, parent, name, staged, is_dir=False)
            else:
                _link_real(node, fd, name)
            st = lstat_at(fd, name)
        except OSError:
            reread_name_locked(state, parent, name)
            raise
        if st.st_ino != node.rino:
            # The file was renamed, and its name now belongs to another: on ESTALE the
            # kernel looks it up again.
            os.unlink(name, dir_fd=fd)
            raise fs_error(errno.ESTALE)
        parent.note_upper(name, upper_entry(st))
        parent.kept_ctime = None
        if node.st_ino != union_ino(upper.layer, st.st_ino):
            mark_impure(state, parent)
        with state.table.lock:
            add_alias(node, parent, name, upper, name)
    return node, st


def _link_real(node: File, dir_fd: int, name: bytes) -> None:
    """Make `name` beneath `dir_fd` a hard link of the upper file of `node`.

    A file without a name can be linked only if O_TMPFILE made it; else link(2) gives ENOENT.
    """
    if node.orphan is None:
        source_fd = node.real.fd()
        os.link(node.rname, name, src_dir_fd=source_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
    else:
        os.link(b"/proc/self/fd/%d" % node.orphan, name, dst_dir_fd=dir_fd, follow_symlinks=True)
