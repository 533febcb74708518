"""Write whiteouts into the upper, in the form that the mount uses, and remove them.

Decided here and only here: the order of steps.  After a crash between any two of them
a name is either unchanged or absent; a deleted file of a lower never shows again.

The caller of each function holds the lock of the directory, which has an upper part.
The functions keep `Dir.loaded` up to date.
"""

from __future__ import annotations

import errno
import os
from functools import partial

from unionfs.core.config import WhiteoutForm
from unionfs.core.inode import LOWER, UPPER_OVER_LOWER, Dir
from unionfs.core.layer import Fd
from unionfs.core.marks_on_disk import mark_before_name, stage_xattr_whiteout
from unionfs.core.owner_rights import as_owner
from unionfs.core.protection import refuse
from unionfs.core.state import State
from unionfs.core.whiteout import (
    make_aufs_whiteout,
    make_char_whiteout,
    remove_aufs_whiteout,
)
from unionfs.core.workdir import WorkDir
from unionfs.syscalls.renameat2 import RENAME_EXCHANGE, renameat2
from unionfs.syscalls.statx import marks_at


def stage_whiteout(state: State, d: Dir) -> bytes:
    """Return the name of a staged whiteout, for the caller to rename into `d`."""
    writable = state.require_upper()
    work = writable.work
    name = work.new_name()
    if writable.whiteout_form is WhiteoutForm.XATTR:
        allow_xattr_whiteouts(state, d)
        stage_xattr_whiteout(state, work, name)
    else:
        _link_whiteout(work, work.fd, name)
    return name


def allow_xattr_whiteouts(state: State, d: Dir) -> None:
    """Mark the upper directory of `d` opaque=x: empty files in it may be whiteouts."""
    upper = d.require_upper()
    if not upper.xwhiteouts:
        mark_before_name(state, upper.fd(), state.marks.opaque, b"x")
        upper.xwhiteouts = True


def remove_name(state: State, d: Dir, name: bytes, emptied: Dir | None) -> None:
    """Make the visible `name` absent: remove it from the upper, and hide it in the lowers.

    `emptied` is the directory that has the name and shows nothing, None for a file.  The caller
    holds its lock too.
    """
    found = d.require_loaded().find(name)
    d.kept_ctime = None
    if found is LOWER:
        add_whiteout(state, d, name)
    elif found is UPPER_OVER_LOWER:
        _replace_by_whiteout(state, d, name, emptied)
    else:
        _remove_entry(state, d, name, emptied)


def add_whiteout(state: State, d: Dir, name: bytes) -> None:
    """Hide `name`, which the upper does not have, with a whiteout."""
    fd, writable = d.require_upper().fd(), state.require_upper()
    if not d.unmarked:
        # The filesystem would let an append-only directory have a whiteout more.
        refuse(marks_at(fd, b""))
        d.unmarked = state.layers_immutable
    work, form = writable.work, writable.whiteout_form
    if form is WhiteoutForm.AUFS:
        make_aufs_whiteout(fd, name)
    elif form is WhiteoutForm.XATTR:
        staged = stage_whiteout(state, d)
        os.rename(staged, name, src_dir_fd=work.fd, dst_dir_fd=fd)
    else:
        _link_whiteout(work, fd, name)
    d.note_whiteout(name)


def _replace_by_whiteout(state: State, d: Dir, name: bytes, emptied: Dir | None) -> None:
    """Replace `name`, which both the upper and a lower have, by a whiteout."""
    fd, writable = d.require_upper().fd(), state.require_upper()
    work = writable.work
    if writable.whiteout_form is WhiteoutForm.AUFS:
        # In one layer a name takes precedence over its AUFS whiteout.
        make_aufs_whiteout(fd, name)
        _remove_entry(state, d, name, emptied)
    else:
        staged = stage_whiteout(state, d)
        if emptied is None:
            os.rename(staged, name, src_dir_fd=work.fd, dst_dir_fd=fd)
        else:
            own_fd = emptied.require_upper().fd()
            # An ordinary user may remove, but not move, a directory of mode 0555.
            as_owner(lambda: renameat2(work.fd, staged, fd, name, RENAME_EXCHANGE), (fd, name))
            _discard_emptied(work, staged, own_fd, emptied)
    d.note_whiteout(name)


def _remove_entry(state: State, d: Dir, name: bytes, emptied: Dir | None) -> None:
    """Remove `name` from the upper; a directory is removed with the whiteouts in it."""
    fd = d.require_upper().fd()
    if emptied is None:
        os.unlink(name, dir_fd=fd)
    else:
        try:
            state.table.remove_in_turn(partial(os.rmdir, name, dir_fd=fd))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            work = state.require_upper().work
            staged, own_fd = work.new_name(), emptied.require_upper().fd()
            as_owner(lambda: os.rename(name, staged, src_dir_fd=fd, dst_dir_fd=work.fd), (fd, name))
            _discard_emptied(work, staged, own_fd, emptied)
    d.note_absent(name)


def _discard_emptied(work: WorkDir, staged: bytes, fd: Fd, emptied: Dir) -> None:
    """Remove the upper directory of `emptied`, open as `fd`, which is `staged` now.

    Mostly it holds nothing but the whiteouts that are known, so it need not be read.
    """
    try:
        for name in emptied.require_loaded().whiteouts:
            os.unlink(name, dir_fd=fd)
        os.rmdir(staged, dir_fd=work.fd)
    except OSError:
        # It has something else, such as whiteouts of another form, or its mode denies it.
        work.discard(staged)


def place_over_whiteout(state: State, d: Dir, name: bytes, staged: bytes, *, is_dir: bool) -> None:
    """Rename what is `staged` over the whiteout `name` of the upper."""
    fd, writable = d.require_upper().fd(), state.require_upper()
    work = writable.work
    if is_dir and not writable.exchanges:
        clear_whiteout(fd, name)
    if is_dir and not _is_aufs_whiteout(fd, name):
        as_owner(lambda: renameat2(work.fd, staged, fd, name, RENAME_EXCHANGE), (work.fd, staged))
        work.discard(staged)
    else:
        as_owner(
            lambda: os.rename(staged, name, src_dir_fd=work.fd, dst_dir_fd=fd), (work.fd, staged)
        )
    forget_whiteout(d, name)


def clear_whiteout(fd: int, name: bytes) -> None:
    """Turn a whiteout of any form into one of the AUFS form, so that nothing has the name itself.

    For filesystems that cannot exchange two names: rename(2) replaces no file by a directory.
    """
    if not _is_aufs_whiteout(fd, name):
        make_aufs_whiteout(fd, name)
        os.unlink(name, dir_fd=fd)


def forget_whiteout(d: Dir, name: bytes) -> None:
    """Note that the upper has `name` now; remove an AUFS whiteout file next to it."""
    if d.loaded is None or name in d.loaded.whiteouts:
        remove_aufs_whiteout(d.require_upper().fd(), name)
    if d.loaded is not None:
        d.loaded.whiteouts.discard(name)


def _is_aufs_whiteout(fd: int, name: bytes) -> bool:
    """Tell whether the whiteout of `name` has the AUFS form: nothing has the name itself."""
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return False


def _link_whiteout(work: WorkDir, dir_fd: int, name: bytes) -> None:
    try:
        shared = work.shared_whiteout()
        os.link(shared, name, src_dir_fd=work.fd, dst_dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT):
            raise
        work.drop_shared_whiteout()
        make_char_whiteout(dir_fd, name)
