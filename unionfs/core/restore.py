"""Restore a path: make it again what the lowers have, while the union is in use.

Decided here and only here: what of the upper is dropped for that, and what becomes of the
inodes that were there.  Requests wait meanwhile, so each of them sees the path before or
after.

The upper's entry of the path is moved to the staging directory, or its whiteout is removed.
A directory that the lowers have too, at the same path, stays the inode it is and loses its
upper part; so a process may stay in it, and what is mounted in it stays.  Every other inode
that had its place in the upper goes on without a name, as after an unlink.

Hard links of a lower file are one file in the upper too, which the index keeps together.
If one of them is restored, the index forgets that file.  All of its links that the upper
does not have by name are again the lower's; those that it has stay a file of their own.

A directory above the path that was copied up only for what is restored goes from the upper
too, so that nothing counts as changed.

What the lowers have at the path must not be shown at another one too: see `elsewhere`.

The directory that the path is in must be that of the lowers: not deleted, replaced or
renamed.  Otherwise that directory is what has to be restored, and the error says so.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from unionfs.core.copy_up import set_delta
from unionfs.core.deletion import leave_dir_locked, leave_name_locked
from unionfs.core.elsewhere import Path, make_own, shown, still_shown
from unionfs.core.inode import Dir, File, Found, Key, Node, in_upper, lower_position, union_ino
from unionfs.core.layer import RealDir, open_path
from unionfs.core.link_index import encode_delta, entry_name
from unionfs.core.lookup import load_locked, lookup_locked
from unionfs.core.metadata import remove_mark, set_xattr, users_own
from unionfs.core.origin import encode_origin
from unionfs.core.owner_rights import as_owner, upper_names
from unionfs.core.state import State, Writable
from unionfs.core.whiteout import DT_DIR, TYPE_MASK, remove_aufs_whiteout
from unionfs.syscalls import xattr
from unionfs.types import ROOT_NODEID, NodeId, Restored


class _Work:
    """What one restore has prepared, done, and leaves to do."""

    def __init__(self, state: State, writable: Writable) -> None:
        self.state = state
        self.writable = writable
        self.leaving: list[Callable[[], None]] = []
        self.names: list[tuple[NodeId, bytes]] = []
        self.inodes: list[NodeId] = []
        self.staged: list[bytes] = []


def restore(
    state: State, path: bytes, *, dry_run: bool = False, along: Sequence[bytes] = ()
) -> Restored:
    """Make `path` what the lowers have; with `dry_run` only tell whether that is a change.

    The caller restores the paths `along` too: what was renamed to them does not count.

    Raises EINVAL for the root and for a path with `.` or `..`; ENOENT if neither the lowers
    nor the upper have it; ESTALE if a directory on the way is not that of the lowers; EBUSY if
    what the lowers have is shown at another path (`elsewhere`); each with a sentence.  EROFS in
    a read-only union.
    """
    names = _names(path)
    if not names:
        raise OSError(errno.EINVAL, "the root is not restored as a whole: restore what is in it")
    if b"." in names or b".." in names:
        raise OSError(errno.EINVAL, f"{shown(names)} has . or .. in it: leave them out")
    work = _Work(state, state.require_upper())
    met: list[Node] = []
    try:
        with state.gate.paused():
            try:
                gone = [tuple(_names(other)) for other in along]
                changed = _restore_paused(work, names, met, gone, dry_run=dry_run)
            finally:
                for node in reversed(met):
                    # The kernel may not know it, and would never forget it.
                    state.table.forget(node.nodeid, 0)
    finally:
        for staged in work.staged:
            work.writable.work.discard(staged)
    state.table.close_surplus()
    return Restored(changed, tuple(work.inodes), tuple(work.names))


def _restore_paused(
    work: _Work, names: list[bytes], met: list[Node], gone: list[Path], *, dry_run: bool
) -> bool:
    state = work.state
    parent = _find_parent(state, names, met)
    name = names[-1]
    copies = still_shown(state, parent, tuple(names), gone)
    with parent.lock:
        found = load_locked(state, parent).find(name)
        if found is Found.ABSENT:
            raise _missing(names)
        node = lookup_locked(state, parent, name)
        if node is not None:
            met.append(node[0])
        links_before = _count_links(state, parent, name)
        changed = found is not Found.LOWER or any(
            _index_entry(state, real, entry) for real, entry, _ in _lower_links(state, parent, name)
        )
        if dry_run or not changed:
            return changed
        for copy in copies:
            make_own(state, copy)
            work.inodes.append(copy.node.nodeid)
        if found in (Found.UPPER, Found.UPPER_OVER_LOWER):
            _take_away(work, parent, name, None if node is None else node[0])
        elif found is Found.WHITED_OUT:
            _drop_whiteout(work, parent, name)
        parent.kept_ctime = None
        work.inodes.append(parent.nodeid)
        _join_lower_links(work, parent, name, links_before)
    _drop_bare_copies(work, parent)
    return True


# -- the way to it --


def _find_parent(state: State, names: list[bytes], met: list[Node]) -> Dir:
    """Return the directory of the path; raises an error if it is not that of the lowers."""
    d = state.table.directory(ROOT_NODEID)
    for depth, name in enumerate(names[:-1], start=1):
        with d.lock:
            in_lowers = name in load_locked(state, d).lower
            found = lookup_locked(state, d, name)
        if found is None:
            raise _instead(names, depth, "was deleted") if in_lowers else _missing(names)
        node = found[0]
        met.append(node)
        if not isinstance(node, Dir):
            raise _instead(names, depth, "is no directory")
        with node.lock:
            load_locked(state, node)
        if not in_lowers:
            raise _instead(names, depth, "is not in the image")
        if node.redirect is not None or not node.lowers:
            raise _instead(names, depth, "is not the image's, it was renamed or made anew")
        d = node
    return d


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name]


def _missing(names: list[bytes]) -> OSError:
    return OSError(errno.ENOENT, f"neither the image nor the container has {shown(names)}")


def _instead(names: list[bytes], depth: int, why: str) -> OSError:
    above = shown(names[:depth])
    return OSError(errno.ESTALE, f"{above} {why}: restore {above} instead of {shown(names)}")


# -- what the upper has --


def _take_away(work: _Work, parent: Dir, name: bytes, node: Node | None) -> None:
    """Move `name` of the upper to the staging directory; the caller holds `parent.lock`."""
    loaded = parent.require_loaded()
    stays = _stays(work, parent, name, node)
    if isinstance(node, Dir) and stays:
        _prepare_bared(work, node)
    elif node is not None:
        _prepare_removed(work, parent, name, node)
    fd, staging = parent.require_upper().fd(), work.writable.work
    staged = staging.new_name()
    move = partial(os.rename, name, staged, src_dir_fd=fd, dst_dir_fd=staging.fd)
    as_owner(move, (fd, None), (fd, name))
    work.staged.append(staged)
    as_owner(partial(remove_aufs_whiteout, fd, name), (fd, None))
    loaded.upper.pop(name, None)
    loaded.whiteouts.discard(name)
    for done in work.leaving:
        done()
    work.leaving.clear()


def _drop_bare_copies(work: _Work, d: Dir) -> None:
    """Take `d`, and each directory above it, from the upper if the upper has nothing of it."""
    while d.parent is not d and _is_bare_copy(work.state, d):
        above = d.parent
        with above.lock:
            load_locked(work.state, above)
            if not _stays(work, above, d.name, d):
                return
            _take_away(work, above, d.name, d)
            above.kept_ctime = None
        work.inodes.append(above.nodeid)
        d = above


def _is_bare_copy(state: State, d: Dir) -> bool:
    """Tell whether the upper directory of `d` is empty, with the metadata of the lower one."""
    if d.upper is None or not d.lowers:
        return False
    fd, lower = d.upper.fd(), d.lowers[0].fd()
    if upper_names(fd):
        return False
    return _own_metadata(state, fd) == _own_metadata(state, lower)


def _own_metadata(state: State, fd: int) -> object:
    st, wanted = os.stat(fd), users_own(state.marks)
    values = {
        name: xattr.get_fd(fd, os.fsencode(name)) for name in xattr.list_fd(fd) if wanted(name)
    }
    return st.st_mode, st.st_uid, st.st_gid, values


def _drop_whiteout(work: _Work, parent: Dir, name: bytes) -> None:
    fd = parent.require_upper().fd()
    with suppress(FileNotFoundError):
        as_owner(partial(os.unlink, name, dir_fd=fd), (fd, None))
    as_owner(partial(remove_aufs_whiteout, fd, name), (fd, None))
    parent.require_loaded().whiteouts.discard(name)
    work.names.append((parent.nodeid, name))


def _stays(work: _Work, parent: Dir, name: bytes, node: Node | None) -> bool:
    """Tell whether `node` stays the inode of `name` when its upper part is gone."""
    packed = parent.require_loaded().lower.get(name)
    if not isinstance(node, Dir) or packed is None or packed & TYPE_MASK != DT_DIR:
        return False
    with node.lock:
        load_locked(work.state, node)
    return bool(node.lowers) and node.redirect is None


def _prepare_bared(work: _Work, d: Dir) -> None:
    """Prepare that `d` loses its upper part, and everything beneath it too."""
    if d.upper is None:
        return
    with d.lock:
        loaded = load_locked(work.state, d)
        for name in {*loaded.whiteouts, *loaded.upper}:
            kid = d.kids.get(name)
            if isinstance(kid, Dir) and _stays(work, d, name, kid):
                _prepare_bared(work, kid)
            elif kid is not None:
                _prepare_removed(work, d, name, kid)
            else:
                work.names.append((d.nodeid, name))
    work.inodes.append(d.nodeid)

    def done() -> None:
        with work.state.table.lock:
            work.state.table.uppers.discard(d)
        d.upper = d.loaded = d.kept_ctime = d.default_acl = None
        d.stamp = ()
        d.impure = False
        d.merged = len(d.lowers) > 1

    work.leaving.append(done)


def _prepare_removed(work: _Work, parent: Dir, name: bytes, node: Node) -> None:
    """Prepare that `node` loses its name, and everything beneath it too.

    The caller holds `parent.lock` and has read the names of `parent`.
    """
    work.names.append((parent.nodeid, name))
    if isinstance(node, File):
        leave_name = leave_name_locked(work.state, node, parent, name)
        if node.aliases:
            leave_name()  # a later name is prepared knowing that this one is gone
        else:
            work.leaving.append(leave_name)
        return
    assert isinstance(node, Dir)
    if node.dead:
        return
    with node.lock:
        load_locked(work.state, node)
        for below, kid in list(node.kids.items()):
            _prepare_removed(work, node, below, kid)
    work.inodes.append(node.nodeid)
    leave = leave_dir_locked(work.state, node)

    def done() -> None:
        leave()
        if parent.kids.get(name) is node:
            del parent.kids[name]

    work.leaving.append(done)


# -- hard links of lower files --


def _lower_links(
    state: State, parent: Dir, name: bytes
) -> Iterator[tuple[RealDir, bytes, os.stat_result]]:
    """Yield the place and attributes of each hard link that the lowers show at or beneath `name`.

    There are none to be found if no link was ever copied up or removed.  The caller holds
    `parent.lock`.
    """
    if not state.index() and not state.lost:
        return
    loaded = parent.require_loaded()
    if loaded.find(name) is Found.LOWER and loaded.lower[name] & TYPE_MASK != DT_DIR:
        real = parent.lowers[lower_position(loaded.lower[name])]
        st = os.stat(name, dir_fd=real.fd(), follow_symlinks=False)
        if st.st_nlink > 1:
            yield real, name, st
        return
    found = lookup_locked(state, parent, name)
    if found is None:
        return
    node = found[0]
    try:
        if isinstance(node, Dir):
            with node.lock:
                for below in [below for below, _, _ in load_locked(state, node).visible()]:
                    yield from _lower_links(state, node, below)
    finally:
        state.table.forget(node.nodeid, 0)


def _count_links(state: State, parent: Dir, name: bytes) -> Counter[Key]:
    return Counter((st.st_dev, st.st_ino) for _, _, st in _lower_links(state, parent, name))


def _index_entry(state: State, real: RealDir, name: bytes) -> bytes | None:
    """Return the index entry of the lower file `name` in `real`, None if it has none."""
    index = state.index()
    if not index:
        return None
    origin = encode_origin(real.layer, real.fd(), name)
    st = None if origin is None else index.find(entry_name(origin))
    if origin is None or st is None or stat.S_ISDIR(st.st_mode):
        return None
    return entry_name(origin)


def _join_lower_links(work: _Work, parent: Dir, name: bytes, before: Counter[Key]) -> None:
    """Let the restored links of a lower file be links of that file again, and count them."""
    state = work.state
    for real, link, st in list(_lower_links(state, parent, name)):
        entry = _index_entry(state, real, link)
        if entry is not None:
            _leave_index(work, entry)
        key = (st.st_dev, st.st_ino)
        before[key] -= 1
        if before[key] < 0:
            lost = state.lost.regain(key, encode_origin(real.layer, real.fd(), link))
            known = state.table.by_key.get(key)
            if known is not None:
                known.lost = lost


def _leave_index(work: _Work, entry: bytes) -> None:
    """Forget the index entry `entry`: its lower file and its upper file are two again.

    Without its origin mark the upper file no longer shows the st_ino of the lower file.
    """
    state, index = work.state, work.writable.index
    st = None if index is None else index.find(entry)
    if index is None or st is None:
        return
    if state.marks.can_carry(st.st_mode):
        set_xattr((index.fd, entry), state.marks.nlink, encode_delta(0))
        with suppress(OSError):
            remove_mark((index.fd, entry), state.marks.origin)
    node = state.table.by_key.get((st.st_dev, st.st_ino))
    if node is not None:
        _leave_lower_names(work, node, entry, index.fd)
    index.remove(entry)


def _leave_lower_names(work: _Work, node: File, entry: bytes, index_fd: int) -> None:
    """Take from `node`, which is the upper file `entry`, the names that the upper does not have."""
    state = work.state
    kept: list[tuple[Dir, bytes]] = []
    for parent, name in node.names():
        if parent.kids.get(name) is not node:
            continue
        upper = parent.upper
        if upper is not None and _is_at(node, upper, name):
            kept.append((parent, name))
        else:
            del parent.kids[name]
            work.names.append((parent.nodeid, name))
    if not kept:
        if not node.unlinked and in_upper(node):
            fd = state.with_room(open_path, entry, index_fd)
            state.table.make_orphan(node, work.writable.unnamed_place, fd)
        node.nlink_delta = 0
        return
    (node.parent, node.name), *rest = kept
    node.aliases = rest or None
    node.real, node.rname = node.parent.require_upper(), node.name
    set_delta(state, node, 0)
    node.st_ino = union_ino(work.writable.upper, node.rino)
    work.inodes.append(node.nodeid)


def _is_at(node: File, real: RealDir, name: bytes) -> bool:
    try:
        st = os.stat(name, dir_fd=real.fd(), follow_symlinks=False)
    except FileNotFoundError:
        return False
    return st.st_ino == node.rino and stat.S_IFMT(st.st_mode) == node.kind
