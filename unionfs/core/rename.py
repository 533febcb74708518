"""rename: move files and directories of any layer in one atomic step.

Decided here and only here: what a rename needs beforehand (copy_ups, redirects,
opaque marks, an empty target) and with which flags of renameat2(2) it is done.

Nothing visible changes before the rename in the upper, and after it only obsolete
entries are removed.

Source: overlayfs.rst "renaming directories"; fs/overlayfs/dir.c:ovl_rename().
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from unionfs.core.config import RedirectDir, WhiteoutForm
from unionfs.core.copy_up import (
    copy_up_dir,
    copy_up_file,
    link_up,
    mark_impure,
    redirect_data,
)
from unionfs.core.deletion import leave_dir_locked, leave_name_locked, not_empty
from unionfs.core.dirops import check_new_name
from unionfs.core.inode import Dir, File, Found, Node, in_upper
from unionfs.core.layer import Fd, RealDir
from unionfs.core.lookup import find_locked, load_locked
from unionfs.core.marks_on_disk import mark_before_name, secure_marks
from unionfs.core.metadata import copy_metadata, set_mark, users_own
from unionfs.core.owner_rights import as_owner, upper_names
from unionfs.core.protection import refuse, require_changeable
from unionfs.core.redirect import MAX_REDIRECT, lower_names
from unionfs.core.state import State
from unionfs.core.whiteout import make_aufs_whiteout
from unionfs.core.whiteout_ops import (
    allow_xattr_whiteouts,
    clear_whiteout,
    forget_whiteout,
    stage_whiteout,
)
from unionfs.errors import fs_error
from unionfs.syscalls.attributes import utimens_at
from unionfs.syscalls.renameat2 import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    renameat2,
)
from unionfs.syscalls.statx import marks_at


class End:
    """One end of a rename: a name in a directory, and the inode that has it now."""

    __slots__ = ("name", "node", "parent")

    def __init__(self, parent: Dir, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.node: Node | None = None

    def found(self) -> Found:
        """Return where the directory has the name."""
        return self.parent.require_loaded().find(self.name)

    def in_upper(self) -> bool:
        """Tell whether the upper has the name."""
        return self.found() in (Found.UPPER, Found.UPPER_OVER_LOWER)

    def covers_lower(self) -> bool:
        """Tell whether a lower has the name too, or would have it without a whiteout."""
        return self.name in self.parent.require_loaded().lower

    def fd(self) -> Fd:
        """Return an fd of the upper directory."""
        return self.parent.require_upper().fd()

    def moved(self) -> Node:
        """Return the inode; ENOENT if there is none."""
        if self.node is None:
            raise fs_error(errno.ENOENT)
        return self.node


def rename(
    state: State, parent: Dir, name: bytes, new_parent: Dir, new_name: bytes, flags: int
) -> None:
    """Rename `name` in `parent` to `new_name` in `new_parent`, as renameat2(2)."""
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or flags == 3:
        raise fs_error(errno.EINVAL)
    check_new_name(new_name)
    if parent is new_parent and _renamed_within(state, parent, name, new_name, flags):
        return
    if not state.require_upper().exchanges and flags == RENAME_EXCHANGE:
        raise fs_error(errno.EINVAL)
    source, target = End(parent, name), End(new_parent, new_name)
    exchange = flags == RENAME_EXCHANGE
    _bring_up(state, source, target, exchange)
    with state.rename_lock, _both_locked(parent, new_parent):
        _look(state, source)
        _look(state, target)
        _check(state, source, target, flags)
        if source.node is target.node:
            return
        if exchange:
            _exchange(state, source, target)
        else:
            _move(state, source, target)
    state.table.close_surplus()


def _renamed_within(state: State, d: Dir, name: bytes, new_name: bytes, flags: int) -> bool:
    """Rename a file that only the upper has to a name that nothing has; tell whether it was so.

    Programs replace files in this way all the time, and it needs no more than rename(2).
    """
    if flags & RENAME_EXCHANGE or not state.layers_immutable:
        return False
    with d.lock:
        loaded, upper, node = d.loaded, d.upper, d.kids.get(name)
        if loaded is None or upper is None or type(node) is not File:
            return False
        if node.real is not upper or node.rname != name or node.key is not None or node.data:
            return False
        ups, lower = loaded.upper, loaded.lower
        # Not `Loaded.find`: a call takes time.
        if name not in ups or name in lower:
            return False
        if new_name in ups or new_name in lower or new_name in loaded.whiteouts:
            return False
        fd = upper.fd()
        os.rename(name, new_name, src_dir_fd=fd, dst_dir_fd=fd)
        ups[new_name] = ups.pop(name)
        d.kids[new_name] = d.kids.pop(name)
        node.name = node.rname = new_name
        d.kept_ctime = None
    return True


def _bring_up(state: State, source: End, target: End, exchange: bool) -> None:
    """Copy up what the rename needs in the upper, before any lock is taken."""
    while True:
        generation = state.generation
        _bring_up_once(state, source, target, exchange)
        if state.generation == generation:
            return
        # A freeze came meanwhile, so what was copied up before it is in a lower now.


def _bring_up_once(state: State, source: End, target: End, exchange: bool) -> None:
    copy_up_dir(state, source.parent)
    copy_up_dir(state, target.parent)
    for end in (source, target) if exchange else (source,):
        with end.parent.lock:
            _look(state, end)
        node = end.moved()
        require_changeable(node)
        if isinstance(node, Dir):
            with node.lock:
                load_locked(state, node)
            if node.lowers and state.config.redirect_dir is not RedirectDir.ON:
                raise fs_error(errno.EXDEV)
            copy_up_dir(state, node)
        elif isinstance(node, File):
            copy_up_file(state, node, metadata_only=True)
            link_up(state, node, end.parent, end.name)
            redirect_data(state, node)


def _both_locked(one: Dir, other: Dir) -> AbstractContextManager[object]:
    """Return a context that holds the locks of both; the caller holds `rename_lock`."""
    return one.lock if one is other else _two_locked(one, other)


@contextmanager
def _two_locked(first: Dir, second: Dir) -> Iterator[None]:
    """Hold the locks of both, that of an ancestor first."""
    if _is_within(first, second) or (
        second.nodeid < first.nodeid and not _is_within(second, first)
    ):
        first, second = second, first
    with first.lock, second.lock:
        yield


def _look(state: State, end: End) -> None:
    if end.parent.dead:
        raise fs_error(errno.ENOENT)
    end.node = find_locked(state, end.parent, end.name)


def _check(state: State, source: End, target: End, flags: int) -> None:
    """Raise what rename(2) raises for these two ends."""
    moved, there = source.node, target.node
    if moved is None or (flags == RENAME_EXCHANGE and there is None):
        raise fs_error(errno.ENOENT)
    if flags == RENAME_NOREPLACE and there is not None:
        raise fs_error(errno.EEXIST)
    for node, new_parent in ((moved, target.parent), (there, source.parent)):
        if isinstance(node, Dir) and _is_within(new_parent, node):
            code = errno.EINVAL if node is moved or flags == RENAME_EXCHANGE else errno.ENOTEMPTY
            raise fs_error(code)
    for end in (source, target) if flags == RENAME_EXCHANGE else (source,):
        if not end.in_upper():
            # It was copied up, but since then something in a lower has the name.
            raise fs_error(errno.ESTALE)
    if there is None or flags == RENAME_EXCHANGE:
        return
    if isinstance(there, Dir) and not isinstance(moved, Dir):
        raise fs_error(errno.EISDIR)
    if isinstance(moved, Dir) and not isinstance(there, Dir):
        raise fs_error(errno.ENOTDIR)


def _is_within(d: Dir, ancestor: Dir) -> bool:
    while d is not ancestor:
        if d.parent is d:
            return False
        d = d.parent
    return True


def _exchange(state: State, source: End, target: End) -> None:
    one, other = source.moved(), target.moved()
    _prepare(state, source, target)
    _prepare(state, target, source)
    up_source = source.parent.require_loaded().upper
    up_target = target.parent.require_loaded().upper
    src, dst = source.fd(), target.fd()
    with state.fds.lock:
        renameat2(src, source.name, dst, target.name, RENAME_EXCHANGE)
        up_source[source.name], up_target[target.name] = (
            up_target[target.name],
            up_source[source.name],
        )
        _settle(state, one, source, target)
        _settle(state, other, target, source)
        source.parent.kids[source.name] = other
        target.parent.kids[target.name] = one


def _move(state: State, source: End, target: End) -> None:
    there = target.node
    if not isinstance(there, Dir):
        _move_to(state, source, target)
        return
    with there.lock:
        if not load_locked(state, there).is_empty():
            raise not_empty(target.parent, there)
        _move_to(state, source, target)


def _move_to(state: State, source: End, target: End) -> None:
    """Move `source` to `target`, where there is no directory with something in it."""
    _prepare(state, source, target)
    _clear_target(state, target)
    leaving = _leave_target(state, target)
    failed = _rename_upper(state, source, target)
    _note_moved(source, target)
    if leaving is not None:
        leaving()
    if failed is not None:
        try:
            raise failed
        finally:
            del failed  # else a reference cycle keeps fds open


def _prepare(state: State, end: End, other: End) -> None:
    """Mark a directory so that it shows the same at the other end as now.

    A directory with lower parts gets a redirect to them.  One without lower parts is made
    opaque if a lower has the new name.
    """
    node = end.node
    if isinstance(node, Dir):
        upper = node.require_upper()
        if node.lowers:
            _redirect(state, node)
        elif other.covers_lower():
            if upper.xwhiteouts:
                # The mark is opaque=x already.  With opaque=y its whiteouts would be files.
                raise fs_error(errno.EXDEV)
            mark_before_name(state, upper.fd(), state.marks.opaque, b"y")
    mark_impure(state, other.parent)


def _redirect(state: State, d: Dir) -> None:
    """Mark the upper directory of `d` with the place of its lower parts; EXDEV if that fails."""
    redirect = b"/" + b"/".join(lower_names(d))
    if d.redirect == redirect:
        return
    if len(redirect) > MAX_REDIRECT:
        raise fs_error(errno.EXDEV)
    try:
        set_mark((d.require_upper().fd(), None), state.marks.redirect, redirect)
    except OSError as error:
        refuse(marks_at(d.require_upper().fd(), b""))  # rename(2) fails in this way, too
        raise fs_error(errno.EXDEV) from error
    secure_marks(state, d.require_upper().fd())
    d.redirect = redirect


def _clear_target(state: State, target: End) -> None:
    """Replace a target directory that holds whiteouts by an empty opaque one.

    rename(2) requires an empty directory.  Removing the whiteouts one by one would show
    the files that they hide.
    """
    d = target.node
    if not isinstance(d, Dir) or d.upper is None:
        return
    fd = d.upper.fd()
    whiteouts = upper_names(fd)
    if not whiteouts:
        return
    if not state.require_upper().exchanges:
        _remove_whiteouts(state, d.upper, whiteouts)
        return
    work = state.require_upper().work
    name = work.new_name()
    try:
        staged = work.make_dir(name)
        copy_metadata((fd, None), (staged, None), os.stat(fd), users_own(state.marks))
        mark_before_name(state, staged, state.marks.opaque, b"y")
        dst = target.fd()
        as_owner(
            lambda: renameat2(work.fd, name, dst, target.name, RENAME_EXCHANGE),
            (staged, None),
            (fd, None),
        )
    finally:
        work.discard(name)


def _remove_whiteouts(state: State, upper: RealDir, whiteouts: list[bytes]) -> None:
    """Remove the whiteouts that a directory consists of; it is made opaque before."""
    if upper.xwhiteouts:
        # The mark is opaque=x already.  With opaque=y its whiteouts would be files.
        raise fs_error(errno.EXDEV)
    fd = upper.fd()
    was = os.stat(fd)
    mark_before_name(state, fd, state.marks.opaque, b"y")
    for name in whiteouts:
        as_owner(partial(os.unlink, name, dir_fd=fd), (fd, None))
    utimens_at(fd, None, was.st_atime_ns, was.st_mtime_ns)


def _leave_target(state: State, target: End) -> Callable[[], None] | None:
    """Prepare the inode at the target for being replaced; return what to do after that."""
    node = target.node
    if node is not None:
        require_changeable(node)
    if isinstance(node, Dir):
        return leave_dir_locked(state, node)
    if isinstance(node, File):
        return leave_name_locked(state, node, target.parent, target.name)
    return None


def _rename_upper(state: State, source: End, target: End) -> OSError | None:
    """Do the rename in the upper, and leave a whiteout at the source if a lower has the name.

    An error that is returned means that the rename was done but the whiteout was not made.
    """
    failed: OSError | None = None
    src, dst = source.fd(), target.fd()
    moved = source.moved()
    is_dir = isinstance(moved, Dir)
    hide = source.found() is Found.UPPER_OVER_LOWER
    writable = state.require_upper()
    if is_dir and not writable.exchanges:
        _clear_whiteout(target, dst)
    whiteout = _whiteout_entry(target, dst) if is_dir else None
    form = writable.whiteout_form
    if whiteout is not None and hide and stat.S_ISREG(whiteout.st_mode):
        allow_xattr_whiteouts(state, source.parent)
    whiteouts = source.parent.require_loaded().whiteouts
    with state.fds.lock:
        if whiteout is not None:
            # This moves the target's whiteout to the source.  There it is wanted, or it
            # does no harm until it is removed below.
            renameat2(src, source.name, dst, target.name, RENAME_EXCHANGE)
            if hide:
                whiteouts.add(source.name)
            else:
                os.unlink(source.name, dir_fd=src)
        elif hide and form is WhiteoutForm.CHAR:
            renameat2(src, source.name, dst, target.name, RENAME_WHITEOUT)
            whiteouts.add(source.name)
        else:
            if hide and form is WhiteoutForm.AUFS:
                # In one layer a name takes precedence over its AUFS whiteout.
                make_aufs_whiteout(src, source.name)
                whiteouts.add(source.name)
            if hide and form is WhiteoutForm.XATTR:
                failed = _rename_and_hide(state, source, target)
            else:
                os.rename(source.name, target.name, src_dir_fd=src, dst_dir_fd=dst)
        _settle(state, moved, source, target)
    return failed


def _rename_and_hide(state: State, source: End, target: End) -> OSError | None:
    """Rename, and then put a whiteout of the xattr form in place of the source.

    If the second step fails, the first is undone.  If that is impossible, because the
    rename replaced a file, the error is returned: the lower then shows at the source.
    """
    work = state.require_upper().work
    src, dst = source.fd(), target.fd()
    whiteouts = source.parent.require_loaded().whiteouts
    replaces = target.in_upper()
    staged = stage_whiteout(state, source.parent)
    try:
        os.rename(source.name, target.name, src_dir_fd=src, dst_dir_fd=dst)
        try:
            os.rename(staged, source.name, src_dir_fd=work.fd, dst_dir_fd=src)
        except OSError as error:
            if replaces or not _moved_back(source, target):
                return error
            raise
    finally:
        work.discard(staged)
    whiteouts.add(source.name)
    return None


def _moved_back(source: End, target: End) -> bool:
    src, dst = source.fd(), target.fd()
    try:
        os.rename(target.name, source.name, src_dir_fd=dst, dst_dir_fd=src)
    except OSError:
        return False
    return True


def _clear_whiteout(target: End, dst: int) -> None:
    if target.name in target.parent.require_loaded().whiteouts:
        clear_whiteout(dst, target.name)


def _whiteout_entry(target: End, dst: int) -> os.stat_result | None:
    """Return the stat of the whiteout with the target's own name, None if there is none."""
    if target.name not in target.parent.require_loaded().whiteouts:
        return None
    try:
        return os.stat(target.name, dir_fd=dst, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _note_moved(source: End, target: End) -> None:
    """Note in both directories what the rename has changed in the upper."""
    moved = source.moved()
    target.parent.note_upper(target.name, source.parent.require_loaded().upper[source.name])
    source.parent.note_absent(source.name)
    forget_whiteout(target.parent, target.name)
    if source.parent.kids.get(source.name) is moved:
        del source.parent.kids[source.name]
    target.parent.kids[target.name] = moved


def _settle(state: State, node: Node, source: End, target: End) -> None:
    """Note the new place of `node`, which was at `source`."""
    new_parent = target.parent.require_upper()
    source.parent.kept_ctime = target.parent.kept_ctime = None
    was, now = (source.parent, source.name), (target.parent, target.name)
    if isinstance(node, Dir):
        state.fds.rename(node.require_upper(), new_parent, target.name)
        node.parent, node.name = now
        node.kept_ctime = None
        return
    assert isinstance(node, File)
    if node.key is None:
        node.parent, node.name = now
    else:
        state.table.move_name(node, was, now)
    if in_upper(node):
        node.real, node.rname = new_parent, target.name
