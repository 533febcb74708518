"""chmod, chown, truncate and utimensat on the upper, after a copy_up if one is needed.

Decided here and only here: the order of changes (size, owner, mode, times: in any
other order one would undo another), and which files lose suid and sgid by a truncate.

Source: chown(2), truncate(2), utimensat(2); fs/overlayfs/inode.c:ovl_setattr().
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs.core.copy_up import (
    copy_up_dir,
    copy_up_file,
    is_slow_copy,
    source_bytes,
)
from unionfs.core.file import Handle, OpenFiles, current_fd, drop_suid, open_fd, reopen
from unionfs.core.inode import Dir, File, Node, in_upper
from unionfs.core.layer import Fd
from unionfs.core.marks_on_disk import waits_for_marks
from unionfs.core.owner_rights import modes_settled
from unionfs.core.protection import require_changeable
from unionfs.core.real_file import AtRest
from unionfs.core.state import State
from unionfs.credentials import Credentials
from unionfs.errors import fs_error
from unionfs.syscalls.attributes import chmod, chmod_at, touch_at, utimens_at
from unionfs.syscalls.lowered import keeping_sgid_at, keeping_suid
from unionfs.syscalls.statx import APPEND_ONLY
from unionfs.types import Attr, SetAttr


def setattr_node(
    state: State, node: Node, change: SetAttr, handle: Handle | None, writer: Credentials | None
) -> os.stat_result:
    """Apply `change` to `node`, through `handle` if it is open; return its real attributes.

    A change of size by `writer` removes suid and sgid, see `file.drop_suid`; with None it
    does not.
    """
    if type(node) is Dir:
        if node.upper is None:
            state.require_upper()
            require_changeable(node, _allowed(change))
        upper = node.require_upper() if node.dead else copy_up_dir(state, node)
        with node.lock:
            fd = upper.fd()
            _apply(state, fd, None, change)
            if change.mode is not None:
                node.closed = not change.mode & stat.S_IXUSR
            node.kept_ctime = None
            return os.stat(fd)
    assert type(node) is File
    opened = None
    if change.size is not None:
        opened = copy_up_file(state, node, size=change.size)
        _truncate(state, node, change.size, handle, writer)
    elif not node.real.layer.is_upper:
        opened = copy_up_file(
            state,
            node,
            metadata_only=True,
            allowed=_allowed(change),
            change=lambda fd: _apply(state, fd, None, change),
        )
        if opened is not None:
            return os.stat(opened)
    if opened is None and node.opened:
        opened = open_fd(node)
    if opened is not None:
        # By the fd: another thread may rename the file meanwhile.
        _apply(state, opened, None, change)
        return os.stat(opened)
    with AtRest(node) as (fd, name):
        if name is None:
            _apply_orphan(state, fd, change)
            return os.stat(fd)
        _apply(state, fd, name, change)
        return os.stat(name, dir_fd=fd, follow_symlinks=False)


def _allowed(change: SetAttr) -> int:
    """Return the marks of chattr(1) that do not forbid `change`."""
    return APPEND_ONLY if change.only_touches() or change.is_nothing() else 0


def as_meant(
    node: Node, attr: Attr, change: SetAttr, caller: Credentials, files: OpenFiles
) -> SetAttr:
    """Return the change to make for the `change` of owners that `caller` asks for.

    `attr` is what `node` shows now.  A chown(2) removes suid, and sgid if the group may execute
    the file; the filesystem does that by itself.  Without group execution sgid is only removed
    if the caller is not in the group and has no CAP_FSETID; that is decided here.

    A `change` of nothing has one of two causes.  It is a chown(2) of neither id, which removes
    suid and sgid, and which the filesystem has to refuse to a caller who does not own the file:
    that is EPERM.  Or the file is open for writing, and the kernel asks before a write that
    suid, sgid and capabilities be removed; then a caller with CAP_FSETID keeps suid and sgid.

    Source: fs/attr.c:notify_change(), setattr_should_drop_sgid(); fs/inode.c:file_remove_privs().
    """
    mode = attr.st.st_mode
    if stat.S_ISDIR(mode) or not mode & (stat.S_ISUID | stat.S_ISGID):
        return change
    if not change.is_nothing():
        if change.mode is not None and not _only_kills_suid(change.mode, mode):
            return change  # the kernel has judged this mode, as of a chmod
        if mode & stat.S_ISGID and not (caller.is_member(attr.st_gid) or caller.keeps_suid()):
            change.mode = stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID)
        return change
    if files.is_written(node):
        return SetAttr(mode=mode) if caller.keeps_suid() else change
    if not caller.owns(attr.st_uid) and _would_lose(attr, caller):
        raise fs_error(errno.EPERM)
    return change


def _only_kills_suid(wanted: int, mode: int) -> bool:
    """Tell whether the kernel added the mode `wanted` to a chown, as it does with pyfuse3."""
    return bool(mode & stat.S_ISUID) and stat.S_IMODE(wanted) == stat.S_IMODE(mode) & ~stat.S_ISUID


def _would_lose(attr: Attr, caller: Credentials) -> bool:
    """Tell whether a file with suid or sgid loses one of them by a chown of `caller`."""
    if attr.st.st_mode & (stat.S_ISUID | stat.S_IXGRP):
        return True
    return not (caller.is_member(attr.st_gid) or caller.keeps_suid())


def slow_setattr(state: State, node: File, change: SetAttr) -> bool:
    """Tell whether `setattr_node` would copy much data, or wait for a disk."""
    if in_upper(node) and (node.data is None or change.size is None):
        return False
    if node.kind != stat.S_IFREG:
        return False
    if change.size is None and state.config.metacopy and not waits_for_marks(state):
        return False
    wanted = source_bytes(node) if change.size is None else min(change.size, source_bytes(node))
    return is_slow_copy(state, node, wanted, metadata_only=change.size is None)


def _truncate(
    state: State, node: File, size: int, handle: Handle | None, writer: Credentials | None
) -> None:
    if handle is not None and handle.writable:
        fd = current_fd(state, handle)
    else:
        fd = reopen(state, node, os.O_WRONLY)
    if writer is not None:
        drop_suid(state, fd, writer)
    with keeping_suid(fd):
        os.ftruncate(fd, size)


def _apply(state: State, fd: int, name: bytes | None, change: SetAttr) -> None:
    if change.is_chown():
        uid, gid = _stored(state, change)
        with state.owners.giving(), keeping_sgid_at(fd, name):
            if name is None:
                os.chown(fd, uid, gid)
            else:
                os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
    if change.mode is not None:
        with modes_settled():
            if name is None:
                chmod(fd, stat.S_IMODE(change.mode))
            else:
                chmod_at(fd, name, stat.S_IMODE(change.mode))
    if change.times_now:
        touch_at(fd, name)
    elif change.atime_ns is not None or change.mtime_ns is not None:
        utimens_at(fd, name, change.atime_ns, change.mtime_ns)


def _apply_orphan(state: State, orphan: Fd, change: SetAttr) -> None:
    path = b"/proc/self/fd/%d" % orphan
    if change.is_chown():
        with state.owners.giving(), keeping_sgid_at(orphan, None):
            os.chown(path, *_stored(state, change))
    if change.mode is not None:
        with modes_settled():
            chmod(path, stat.S_IMODE(change.mode))
    if change.times_now:
        os.utime(path)
    elif change.atime_ns is not None or change.mtime_ns is not None:
        st = os.stat(orphan)
        atime = st.st_atime_ns if change.atime_ns is None else change.atime_ns
        mtime = st.st_mtime_ns if change.mtime_ns is None else change.mtime_ns
        os.utime(path, ns=(atime, mtime))


def _stored(state: State, change: SetAttr) -> tuple[int, int]:
    owners = state.owners
    uid = -1 if change.uid is None else owners.stored_uid(change.uid)
    gid = -1 if change.gid is None else owners.stored_gid(change.gid)
    return uid, gid
