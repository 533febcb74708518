"""lookup: find the real files and directories of a name.

Decided here and only here: how a real file or directory becomes an inode of the union, and
what is looked at for that.  Which layer provides a name is decided by `merge`.

At the first lookup in a directory all its real directories are read.  After that a lookup
takes dictionary look-ups, whatever the number of layers, and one stat(2) if the name
exists.

Source: overlayfs.rst "Upper and lower", "whiteouts and opaque directories",
"redirect_dir", "Metadata only copy up"; fs/overlayfs/namei.c:ovl_lookup().
"""

from __future__ import annotations

import errno
import os
import stat
import time
from time import perf_counter_ns, thread_time_ns

from unionfs.core.config import RedirectDir
from unionfs.core.file_marks import (
    has_lower_mark,
    mark_ino,
    origin_ino,
    read_file_marks,
    read_lower_marks,
)
from unionfs.core.inode import (
    ABSENT,
    LOWER,
    POSITION_MASK,
    WHITED_OUT,
    Dir,
    File,
    Key,
    Loaded,
    Node,
    lower_position,
    union_ino,
)
from unionfs.core.layer import GONE, RealDir
from unionfs.core.link_index import LinkIndex, entry_name
from unionfs.core.merge import merge_locked, resolve_locked
from unionfs.core.origin import encode_origin
from unionfs.core.owner_rights import as_owner, upper_stat
from unionfs.core.real_file import stat_node
from unionfs.core.redirect import follow_beneath, follow_dir, split_redirect
from unionfs.core.state import State, Writable
from unionfs.core.whiteout import (
    DT_DIR,
    INO_SHIFT,
    TYPE_MASK,
    Scan,
    has_aufs_whiteout,
    is_whiteout,
    is_xattr_whiteout,
    read_dir_marks,
    scan,
    upper_entry,
)
from unionfs.errors import fs_error
from unionfs.light_logging import Logger
from unionfs.types import StIno

log = Logger(__name__)

NodeStat = tuple[Node, os.stat_result]


def lookup(state: State, parent: Dir, name: bytes) -> NodeStat | None:
    """Return the inode of `name` in `parent` and its real attributes, None if it is absent.

    The inode is added to the table, and one more reference to it is counted.
    """
    if name not in parent.kids:
        new = look_up_plain(state, parent, name)
        if new is not None:
            return new
    if len(name) > 255:
        raise fs_error(errno.ENAMETOOLONG)
    with parent.lock:
        while True:
            found = lookup_locked(state, parent, name)
            if found is None:
                return None
            if state.table.hold(found[0]):
                break
            # The kernel has forgotten it meanwhile.  If it were used all the same, there
            # could be two inodes of one file, and a change by one would not show in the
            # other.
            detach_locked(parent, name, found[0])
    node, st = found
    if type(node) is File and node.rino != st.st_ino:
        # Its place is in another directory, where another thread is at work.
        return node, stat_node(state, node)
    return found


def look_up_plain(state: State, parent: Dir, name: bytes) -> NodeStat | None:
    """Do as `lookup` of a file that is not known yet, in one go; return None for most others.

    Most files are in a lower and have one link.  They are neither a link nor a copy of another
    file.  In the lowest layer their marks are not read.
    """
    with parent.lock:
        loaded = parent.loaded
        if loaded is None or not state.layers_immutable:
            return None
        packed = loaded.lower.get(name, DT_DIR)
        if (
            packed & TYPE_MASK == DT_DIR
            or name in parent.kids
            or name in loaded.upper
            or name in loaded.whiteouts
        ):
            return None
        real = parent.lowers[packed >> INO_SHIFT & POSITION_MASK]
        if real.impure:
            return None
        layer = real.layer
        try:
            st = os.stat(name, dir_fd=real.fd(), follow_symlinks=False)
            node = File(parent, name, real, st)
            if st.st_nlink != 1 or node.kind == stat.S_IFDIR:
                return None
            if node.kind == stat.S_IFREG:
                node.found_size = st.st_size
                if not layer.bottom and has_lower_mark(state, node):
                    return None
            elif is_whiteout(st):
                return None
        except OSError:
            return None  # `lookup_locked` reports the error
        table = state.table
        with table.lock:
            table.add_locked(node, union_ino(layer, st.st_ino) if layer.fsid else StIno(st.st_ino))
            node.nlookup = 1
            parent.kids[name] = node
    return node, st


def is_absent(state: State, d: Dir, name: bytes) -> bool:
    """Tell whether `d` is known not to have `name`; takes no lock.

    For a request of the kernel, which makes none meanwhile that changes the names in `d`.  What
    is copied up or restored meanwhile is in a lower.
    """
    loaded = d.loaded
    return (
        loaded is not None
        and state.layers_immutable
        and not (name in loaded.upper or name in loaded.lower or name in d.kids)
    )


def lookup_locked(state: State, parent: Dir, name: bytes) -> NodeStat | None:
    """Like `lookup`; the caller holds `parent.lock`.

    If the place of the file is in another directory, the attributes may be those of
    another link of the same file, with another inode number.
    """
    loaded = load_locked(state, parent)
    kid = parent.kids.get(name)
    if kid is not None:
        current = state.layers_immutable or _is_current(parent, loaded, name, kid)
        st = stat_kid(state, kid) if current else None
        if st is not None:
            return kid, st
        detach_locked(parent, name, kid)
    # Not `Loaded.find`: a call takes time.
    if name in loaded.upper:
        real = parent.require_upper()
    else:
        packed = None if name in loaded.whiteouts else loaded.lower.get(name)
        if packed is None:
            return None
        real = parent.lowers[packed >> INO_SHIFT & POSITION_MASK]
    try:
        st = os.stat(name, dir_fd=real.fd(), follow_symlinks=False)
    except PermissionError:
        if not real.layer.is_upper:
            raise
        st = upper_stat(real.fd(), name)
    except OSError as error:
        if error.errno not in GONE:
            raise
        st = None
    if st is None or is_whiteout(st):  # since the directory was read
        if not state.layers_immutable:
            return None
        log.error("%r has vanished from the layer %r", name, real.full_path())
        raise fs_error(errno.EIO)
    if stat.S_ISDIR(st.st_mode):
        return _make_dir(state, parent, loaded, name, real, st), st
    node = _make_file(state, parent, name, real, st)
    if node.real is not real:
        # It is a link of a file that was copied up under another name.
        return node, stat_kid(state, node) or st
    return node, st


def find_locked(state: State, parent: Dir, name: bytes) -> Node | None:
    """Like `lookup_locked`, for a caller that needs no attributes.

    What is known by this name, and no other, is not looked at: the caller holds the lock under
    which that could change.
    """
    kid = parent.kids.get(name)
    if (
        kid is not None
        and state.layers_immutable
        and _is_only_here(parent, name, kid)
        and load_locked(state, parent).holds(name)
    ):
        if type(kid) is Dir:
            kid.top().fd()  # one that cannot be opened is reported here, before anything is done
        return kid
    found = lookup_locked(state, parent, name)
    return None if found is None else found[0]


def _is_only_here(parent: Dir, name: bytes, kid: Node) -> bool:
    """Tell whether the place of `kid`, which is known as `name`, is certain to be in `parent`.

    A file that has other names may have its place in another directory.
    """
    if type(kid) is not File:
        return True
    return kid.rname == name and (
        kid.real is parent.upper or (kid.key is None and not kid.real.layer.is_upper)
    )


def _is_current(parent: Dir, loaded: Loaded, name: bytes, kid: Node) -> bool:
    """Tell whether `name` still leads to `kid`, in a mount whose layers may change."""
    found = loaded.find(name)
    if found is LOWER:
        real = parent.lowers[lower_position(loaded.lower[name])]
    elif found is ABSENT or found is WHITED_OUT:
        return False
    else:
        real = parent.require_upper()
    try:
        st = os.stat(name, dir_fd=real.fd(), follow_symlinks=False)
        if isinstance(kid, Dir):
            top = kid.top()
            return top.layer is real.layer and os.stat(top.fd()).st_ino == st.st_ino
    except OSError as error:
        if error.errno in GONE:
            return False
        raise
    assert isinstance(kid, File)
    if kid.real.layer is not real.layer:
        # A lower link leads to the copy of another link in the upper.
        return not real.layer.is_upper and kid.key is not None
    return st.st_ino == kid.rino and stat.S_IFMT(st.st_mode) == kid.kind


def stat_kid(state: State, kid: Node) -> os.stat_result | None:
    """Return the real attributes of a known inode, None if another file has its place now."""
    if isinstance(kid, Dir):
        real = kid.top()
        try:
            return os.stat(real.fd())
        except OSError as error:
            if error.errno in GONE and not state.layers_immutable:
                return None
            raise
    assert isinstance(kid, File)
    try:
        st = stat_place(kid)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    # The number may be reused, even for a whiteout of this name.
    return st if st.st_ino == kid.rino and stat.S_IFMT(st.st_mode) == kid.kind else None


def stat_place(node: File) -> os.stat_result:
    """Return the real attributes of the file that is at the place of `node` now."""
    real, name = node.real, node.rname
    try:
        return os.stat(name, dir_fd=real.fd(), follow_symlinks=False)
    except PermissionError:
        if not real.layer.is_upper:
            raise
        return upper_stat(real.fd(), name)


def detach_locked(parent: Dir, name: bytes, kid: Node) -> None:
    """Remove `name`, if it is that of `kid`, from the known names of `parent`."""
    if parent.kids.get(name) is kid:
        del parent.kids[name]


def load_locked(state: State, d: Dir) -> Loaded:
    """Return the names in `d`, which is read if they are unknown; the caller holds `d.lock`.

    Raises ENOENT for a removed directory.
    """
    loaded = d.loaded
    if loaded is not None and (state.layers_immutable or not _is_stale(state, d)):
        return loaded
    if d.dead:
        raise fs_error(errno.ENOENT)
    began, used_before = perf_counter_ns(), thread_time_ns()
    if not state.layers_immutable and not d.stamp:
        # Before the names are read: a change meanwhile is noticed by the next lookup.
        resolve_locked(state, d)
        d.stamp, d.stamped_at = stamp_of(d), time.monotonic_ns()
    found = Scan()
    if d.upper is not None:
        found = scan(state.marks, d.upper.fd(), xwhiteouts=d.upper.xwhiteouts)
        if found.opaque:
            d.lowers, d.merged, d.resolved = (), False, True
    loaded = d.loaded = Loaded(found.names, found.whiteouts, *merge_locked(state, d))
    if state.ahead is not None:
        reals = d.lowers if d.upper is None else (d.upper, *d.lowers)
        took, used = perf_counter_ns() - began, thread_time_ns() - used_before
        state.ahead.loaded(reals, max(0, took - used))
    return loaded


def reread_name_locked(state: State, d: Dir, name: bytes) -> None:
    """Read again what the upper has of `name`, after an operation on it failed half-way.

    The caller holds `d.lock`.  If this fails too, all of `d` is read again at the next
    lookup in it.
    """
    loaded, upper = d.loaded, d.upper
    if d.dead or loaded is None or upper is None:
        return
    try:
        fd = upper.fd()
        hidden = has_aufs_whiteout(fd, name)
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            st = None
        if st is not None and (
            is_whiteout(st) or (upper.xwhiteouts and is_xattr_whiteout(state.marks, fd, name, st))
        ):
            st, hidden = None, True
    except OSError as error:
        log.warning(
            "%r is read again, because its entry %r cannot be: %s", upper.full_path(), name, error
        )
        d.loaded = None
        return
    loaded.upper.pop(name, None)
    loaded.whiteouts.discard(name)
    if st is not None:
        loaded.upper[name] = upper_entry(st)
    elif hidden:
        loaded.whiteouts.add(name)


def _make_dir(
    state: State,
    parent: Dir,
    loaded: Loaded,
    name: bytes,
    real: RealDir,
    st: os.stat_result,
) -> Dir:
    """Make the inode of the directory `name`, which `real` provides."""
    lowers = []
    if loaded.lower.get(name, 0) & TYPE_MASK == DT_DIR:
        for position in loaded.positions(name):
            beneath = parent.lowers[position]
            lowers.append(RealDir(beneath.layer, beneath, name))
    upper = None
    if real.layer.is_upper:
        upper = RealDir(real.layer, real, name)
    elif not lowers:
        log.error("%r in the layer %r was replaced by a directory", name, real.full_path())
        raise fs_error(errno.EIO)
    node = Dir(parent, name, upper, tuple(lowers))
    ino = union_ino(real.layer, st.st_ino)
    if upper is not None:
        ino = _read_upper_marks(state, node, upper) or ino
    elif real.impure:
        ino = mark_ino(state, real, name) or ino
    with state.table.lock:
        state.table.add_locked(node, ino)
        parent.kids[name] = node
        if upper is not None:
            state.table.uppers.add(node)
    return node


def _read_upper_marks(state: State, node: Dir, upper: RealDir) -> StIno | None:
    """Apply the marks on an upper directory to `node`; return the st_ino of its origin."""
    fd = upper.fd()
    found = as_owner(lambda: read_dir_marks(state.marks, fd), (fd, None))
    upper.xwhiteouts = found.xwhiteouts
    node.impure = found.impure
    if found.opaque:
        node.lowers = ()
        node.resolved = True
    elif found.redirect is not None and state.config.redirect_dir is not RedirectDir.NOFOLLOW:
        node.redirect = found.redirect.rstrip(b"\0")
        node.lowers = tuple(_upper_redirect(state, node, found.redirect))
        node.resolved = True
    node.merged = len(node.lowers) > 0
    return None if found.origin is None else origin_ino(state, found.origin)


def _upper_redirect(state: State, node: Dir, redirect: bytes) -> list[RealDir]:
    absolute, names = split_redirect(redirect)
    if not absolute:
        return follow_beneath(state.marks, state.lowers, node.parent.lowers, names[0])
    return follow_dir(state.marks, state.lowers, names, redirects=True)


def _make_file(state: State, parent: Dir, name: bytes, real: RealDir, st: os.stat_result) -> File:
    """Make the inode of the file `name` in `real`, or return that of which it is a link."""
    in_upper = real.layer.is_upper
    key: Key | None = None
    # With one link left, it may be an unknown name of a file that an fd keeps alive.
    if st.st_nlink > 1 or (in_upper and state.table.orphans):
        writable = state.writable
        index = None if writable is None else writable.index
        if writable is not None and index and not in_upper:
            linked = _indexed(state, writable, index, (parent, name), real, st)
            if linked is not None:
                return linked
        linkable = index is not None and real.layer.has_handles
        if in_upper or linkable or writable is None:
            key = (st.st_dev, st.st_ino)
            linked = _known_link(state, key, parent, name, (real, name))
            if linked is not None:
                return linked
    node = File(parent, name, real, st)
    ino = union_ino(real.layer, st.st_ino)
    if in_upper:
        ino = read_file_marks(state, node, real.fd(), name, st) or ino
    else:
        if not real.layer.bottom:
            ino = read_lower_marks(state, node, st) or ino
        if node.kind == stat.S_IFREG and node.data is None and state.layers_immutable:
            node.found_size = st.st_size
    return _enter_file(state, node, ino, key)


def _known_link(
    state: State, key: Key | None, parent: Dir, name: bytes, place: tuple[RealDir, bytes]
) -> File | None:
    """Add the name `name` in `parent`, at `place`, to the inode `key`, if that is known."""
    with state.table.lock:
        known = None if key is None else state.table.by_key.get(key)
        if known is not None:
            add_alias(known, parent, name, *place)
        return known


def _enter_file(state: State, node: File, ino: StIno, key: Key | None) -> File:
    """Add `node` to the table, unless another thread has added it by another name meanwhile."""
    with state.table.lock:
        known = None if key is None else state.table.by_key.get(key)
        if known is not None:
            add_alias(known, node.parent, node.name, node.real, node.rname)
            return known
        state.table.add_locked(node, ino)
        node.parent.kids[node.name] = node
        if key is not None:
            node.key = key
            node.lost = state.lost.get(key)
            state.table.by_key[key] = node
        return node


def add_alias(node: File, parent: Dir, name: bytes, real: RealDir, rname: bytes) -> None:
    """Add the name `name` in `parent`, at the place `rname` in `real`, to `node`."""
    place = parent, name
    if node.unlinked:
        # Its last known name was removed, and this one was not known.
        node.parent, node.name, node.aliases = parent, name, None
        node.real, node.rname = real, rname
        node.unlinked, node.orphan, node.last_stat = False, None, None
    elif place != (node.parent, node.name):
        if node.aliases is None:
            node.aliases = [place]
        elif place not in node.aliases:
            node.aliases.append(place)
    parent.kids[name] = node


def _indexed(
    state: State,
    writable: Writable,
    index: LinkIndex,
    at: tuple[Dir, bytes],
    real: RealDir,
    st: os.stat_result,
) -> File | None:
    """Return the inode of a lower hard link if its file was copied up by another name."""
    parent, name = at
    origin = encode_origin(real.layer, real.fd(), name)
    if origin is None:
        return None
    entry = entry_name(origin)
    upper_st = index.find(entry)
    if upper_st is None:
        return None
    if stat.S_IFMT(upper_st.st_mode) != stat.S_IFMT(st.st_mode):
        # As fs/overlayfs/namei.c:ovl_lookup_index().
        log.error(
            "the index entry %r has another type than %r", entry, real.full_path() + b"/" + name
        )
        raise fs_error(errno.EIO)
    index.used.add(entry)
    key = (upper_st.st_dev, upper_st.st_ino)
    place = writable.place_in_index(index)
    known = _known_link(state, key, parent, name, (place, entry))
    if known is not None:
        return known
    node = File(parent, name, place, upper_st)
    node.rname = entry
    ino = read_file_marks(state, node, index.fd, entry, upper_st)
    return _enter_file(state, node, ino or union_ino(real.layer, st.st_ino), key)


def stamp_of(d: Dir) -> tuple[Key, ...]:
    """Return the times of the real directories of `d`; every change of an entry changes one."""
    reals = d.lowers if d.upper is None else (d.upper, *d.lowers)
    stats = [os.stat(real.fd()) for real in reals]
    return tuple((st.st_mtime_ns, st.st_ctime_ns) for st in stats)


def _is_stale(state: State, d: Dir) -> bool:
    """Tell whether `d` has to be read again, in a mount whose layers may change."""
    now = time.monotonic_ns()
    timeout_ns = int((state.config.timeout or 0.0) * 1e9)
    if d.stamp and now - d.stamped_at < timeout_ns:
        return False
    stamp = stamp_of(d)
    changed = stamp != d.stamp
    d.stamp, d.stamped_at = stamp, now
    if changed:
        d.loaded = None
    return changed
