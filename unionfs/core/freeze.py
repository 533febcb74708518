"""freeze: make the upper the topmost lower, under a fresh upper, while the union is in use.

Decided here and only here: the preparations, the steps taken while all requests
wait at the gate, and their order.

Two preparations are made while requests are served.  Names of a copied-up hard link
that lead to it only through the index are linked into the upper, because a lower has no
index.  And all names of a hard link that is in use are looked up, because
all of them have to move.  Then the gate is closed, and:

1. The fresh upper, made where the old one is to go, takes its place by one
   RENAME_EXCHANGE; a crash leaves either the one or the other.
2. In every known directory that has an upper part, this part becomes the topmost
   lower.  Nothing else in memory changes: the name, the place and the st_ino of
   a file stay the same, and a directory is read again at the next lookup in it.
3. A file in use moves to the new upper, because its writers (with
   passthrough, the kernel itself) go on writing; the old upper gets a copy.

Only the copies of step 3 take time.  They are made before step 1, and put into
the fresh upper together with the directories above them.  Step 3 then only
exchanges names, and a full disk leaves the union unchanged.

Source: renameat2(2); overlayfs.rst "Index", "Sharing and copying layers".
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from unionfs.core.config import MAX_LOWERS
from unionfs.core.file import Handle, current_fd
from unionfs.core.file_marks import origin_of
from unionfs.core.freeze_links import adopt_names, known_names, settle_index
from unionfs.core.inode import Dir, File, in_upper
from unionfs.core.kept_open import keep_open
from unionfs.core.layer import Fd, Layer, RealDir, open_path
from unionfs.core.metadata import copy_metadata, every, set_mark, upper_xattrs, users_own
from unionfs.core.origin import encode_origin
from unionfs.core.owner_rights import Place, as_owner, upper_stat
from unionfs.core.protection import protect, unmarked
from unionfs.core.real_file import open_node
from unionfs.core.setup import take_for_ourselves
from unionfs.core.state import State, Writable
from unionfs.core.whiteout import DT_REG, INO_SHIFT, upper_entry
from unionfs.core.workdir import WorkDir
from unionfs.errors import fs_error
from unionfs.syscalls.attributes import utimens_at
from unionfs.syscalls.copyfile import copy_range, try_reflink
from unionfs.syscalls.disinherit import disinherit
from unionfs.syscalls.removal import remove_tree
from unionfs.syscalls.renameat2 import AT_FDCWD, RENAME_EXCHANGE, renameat2
from unionfs.syscalls.statx import marks_at
from unionfs.syscalls.syncfs import syncfs
from unionfs.types import FMODE_EXEC, ROOT_NODEID, Frozen

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
TRIES = 5  # requests may undo the preparations before the gate is closed

Handles = Callable[[], Iterable[Handle]]


class _Writer:
    """A file in use, and its copy in the staging directory."""

    def __init__(self, node: File, copy: bytes, size: int) -> None:
        self.node = node
        self.copy = copy
        self.size = size


def freeze(state: State, handles: Handles, upper_to: bytes, *, ahead: bool = False) -> Frozen:
    """Make the upper the topmost lower, and move it to `upper_to`, where nothing may be yet.

    `handles` returns the handles that are open now.  With `ahead` files in use are copied
    before the pause, while they may be written to.  Raises EROFS in a read-only union,
    EINVAL if the union cannot have another lower or `upper_to` is in the upper, and the
    error of a system call that fails; the union is then unchanged.
    """
    writable = state.require_upper()
    upper = writable.upper
    if len(state.lowers) >= MAX_LOWERS:
        raise OSError(errno.EINVAL, f"the union has {MAX_LOWERS} lower layers, the maximum")
    upper_to = os.path.abspath(upper_to)
    if upper_to.startswith(upper.path + b"/"):
        raise OSError(errno.EINVAL, "the upper cannot be moved into itself", upper_to)
    if writable.ahead is not None:
        writable.ahead.discard()
    os.mkdir(upper_to, 0o700)
    try:
        fresh = Fd(os.open(upper_to, _OPEN_DIR))
        if os.fstat(fresh).st_dev != upper.dev:
            raise fs_error(errno.EXDEV, upper_to)
        fresh = state.mounts.fresh_upper(upper_to, fresh)
        take_for_ourselves("upperdir", upper_to, fresh)
        disinherit(fresh)  # it gets what the present upper has
        frozen = _attempt(state, writable, handles, upper_to, fresh, ahead=ahead)
    except BaseException:
        if writable.upper is upper:
            os.rmdir(upper_to)
        raise
    if not state.config.volatile:
        syncfs(upper.root.fd())
    upper.settled = True
    return frozen


def _attempt(
    state: State,
    writable: Writable,
    handles: Handles,
    upper_to: bytes,
    fresh: Fd,
    *,
    ahead: bool,
) -> Frozen:
    for attempt in range(TRIES):
        early: list[_Writer] = []
        with _discarding(writable.work, early):
            with _names_may_go():
                settle_index(state)
                nodes = _in_use(state, handles())
                adopt_names(state, nodes)
                for node in nodes if ahead else ():
                    early.append(_stage_copy(state, writable, node))
            with state.gate.paused() as since:
                # A request may undo the preparations: try again, the last time in the pause.
                last = attempt == TRIES - 1
                if last:
                    settle_index(state, paused=True)
                    adopt_names(state, _in_use(state, handles()))
                nodes = _in_use(state, handles())
                if not last and (_index_used(writable) or not all(map(_has_all_names, nodes))):
                    continue
                copied = _freeze_paused(state, writable, nodes, early, handles, upper_to, fresh)
                return copied._replace(pause_ns=time.monotonic_ns() - since)
    raise AssertionError("the last attempt returns")


@contextmanager
def _discarding(work: WorkDir, writers: list[_Writer]) -> Iterator[None]:
    """At the end, remove the copies that are still in `writers`."""
    try:
        yield
    finally:
        for writer in writers:
            work.discard(writer.copy)


@contextmanager
def _names_may_go() -> Iterator[None]:
    """Prepare while requests are served: one of them may remove the name that is looked at.

    What has not been done for that reason is found and done in the pause.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise


def _index_used(writable: Writable) -> bool:
    return writable.index is not None and bool(writable.index.used)


def _is_in_use(state: State, handle: Handle) -> bool:
    """Tell whether the file of `handle` has to keep its real file.

    Somebody may write to it at any moment, or the kernel reads it by itself: it could
    then not be written to later through the same inode.  It denies that for a program
    that runs.
    """
    return handle.writable or (state.passes_through and not handle.flags & FMODE_EXEC)


def _in_use(state: State, handles: Iterable[Handle]) -> list[File]:
    """Return the files with a name in the upper that are in use."""
    return _in_upper(state, (handle for handle in handles if _is_in_use(state, handle)))


def _in_upper(state: State, handles: Iterable[Handle]) -> list[File]:
    """Return the files of `handles` that have a name in the upper."""
    nodes = {handle.node: handle for handle in handles}
    return [
        node
        for node, handle in nodes.items()
        if in_upper(node)
        and node not in state.require_upper().sheltered
        and os.fstat(current_fd(state, handle)).st_nlink
    ]


def paths_open_for_writing(state: State, handles: Iterable[Handle]) -> list[bytes]:
    """Return the paths of the files that are open for writing."""
    writers = (handle for handle in handles if handle.writable)
    return [_path_of(node) for node in _in_upper(state, writers)]


def _has_all_names(node: File) -> bool:
    if node.unlinked:
        return False
    st = upper_stat(node.real.fd(), node.rname)
    return len(known_names(node)) == st.st_nlink


def _freeze_paused(
    state: State,
    writable: Writable,
    nodes: list[File],
    early: list[_Writer],
    handles: Handles,
    upper_to: bytes,
    fresh: Fd,
) -> Frozen:
    """Do steps 1 to 3 of this module's docstring; no request is inside the union.

    `early` are copies made before the pause, to be used for files still open for writing.
    """
    upper, work = writable.upper, writable.work
    writers: list[_Writer] = []
    marked = ExitStack()
    try:
        ready = {writer.node: writer for writer in early}
        for node in nodes:
            writers.append(ready.get(node) or _stage_copy(state, writable, node))
        keep_orphans(state, writable)
        keep_open(state, handles(), set(nodes))
        work.drop_shared_whiteout()
        _match_root(state, upper, fresh)
        made = _lay_out(state, work, fresh, writers)
        root = state.table.directory(ROOT_NODEID)
        before = {d: os.stat(d.top().fd()) for d in {root, *made}}
        marks = {d: marks_at(d.top().fd(), b"") for d in before}
        marked.enter_context(unmarked(_to_be_moved(before, writers)))
        _exchange_uppers(upper, upper_to)
    except BaseException:
        marked.close()
        for writer in writers:
            work.discard(writer.copy)
        for name in os.listdir(b"/proc/self/fd/%d" % fresh):
            remove_tree(fresh, name)
        raise
    early[:] = [writer for writer in early if writer not in writers]
    _swap(state, writable, upper_to, fresh)
    _adopt(state, writable.upper, made)
    with marked:
        for writer in writers:
            _move(writer)
    for d, st in before.items():
        protect((d.require_upper().fd(), None), marks[d])
        # The union shows the same ctime, though another real directory is on top.
        d.keep_ctime(st, os.stat(d.top().fd()))
    fd = state.mounts.frozen_upper(upper_to, upper.root.fd())
    if fd is not None:
        # From now on it is a lower layer: its directories are opened as such.
        state.fds.close_unpinned()
        upper.root.pin(fd)
    return Frozen(
        0,
        tuple(_path_of(writer.node) for writer in writers),
        sum(writer.size for writer in writers),
    )


def _to_be_moved(directories: Iterable[Dir], writers: list[_Writer]) -> Iterator[Place]:
    """Yield the places that `_exchange_uppers` and `_move` rename, or rename in."""
    for d in directories:
        yield d.top().fd(), None
    for writer in writers:
        yield writer.node.real.fd(), writer.node.rname


def _path_of(node: File) -> bytes:
    names = [node.name]
    at = node.parent
    while at.parent is not at:
        names.append(at.name)
        at = at.parent
    return b"/" + b"/".join(reversed(names))


# -- copies --


def _stage_copy(state: State, writable: Writable, node: File) -> _Writer:
    """Copy the upper file of `node`, with its marks, into the staging directory."""
    # A program may have a file of mode 0 open.
    source = open_node(state, node, os.O_RDONLY, metacopy=True, widen=True)
    name = writable.work.new_name()
    try:
        size = _copy_exactly(writable, source, name)
    except BaseException:
        writable.work.discard(name)
        raise
    return _Writer(node, name, size)


def _copy_exactly(writable: Writable, source: Fd, name: bytes) -> int:
    upper = writable.upper
    st = os.fstat(source)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    copy = Fd(os.open(name, flags, 0o600, dir_fd=writable.work.fd))
    if st.st_size and not (upper.reflinks and try_reflink(source, copy)):
        upper.reflinks = False
        copy_range(source, copy, st.st_size, holes=st.st_blocks * 512 < st.st_size)
    marks = upper_xattrs((source, None), every)
    copy_metadata((source, None), (copy, None), st, every, marks, names=())
    return st.st_size


def keep_orphans(state: State, writable: Writable) -> None:
    """Give a nameless inode its own copy, if its file still has a name in the upper.

    A file has two inodes if it was copied up while a program read the lower by
    passthrough; that program keeps the old one.  What it changes through the old inode
    must not reach the frozen layer.
    """
    work = writable.work
    for node in list(state.table.orphans):
        orphan = node.orphan
        if orphan is None or not os.stat(orphan).st_nlink or node.kind != DT_REG << 12:
            continue
        source = open_node(state, node, os.O_RDONLY, metacopy=True, widen=True)
        name = work.new_name()
        try:
            _copy_exactly(writable, source, name)
            node.orphan = open_path(name, work.fd)
            node.rino = os.stat(node.orphan).st_ino
        finally:
            work.discard(name)


def _match_root(state: State, upper: Layer, fresh: Fd) -> None:
    """Make the root of the fresh upper look like that of the old one, which is its origin."""
    root = upper.root.fd()
    origin = encode_origin(upper, root, b".")
    wanted = users_own(state.marks)
    marks = upper_xattrs((root, None), wanted)
    if origin is not None:
        marks[state.marks.origin] = origin
    copy_metadata((root, None), (fresh, None), os.fstat(root), wanted, marks, names=())


# -- the stack --


def _exchange_uppers(upper: Layer, upper_to: bytes) -> None:
    """Swap the upper with the fresh one; the old is then at `upper_to`."""
    here, meant = os.stat(upper.path), os.stat(upper.root.fd())
    if (here.st_dev, here.st_ino) != (meant.st_dev, meant.st_ino):
        raise OSError(errno.ESTALE, "the upper was moved or replaced since the mount", upper.path)
    try:
        renameat2(AT_FDCWD, upper.path, AT_FDCWD, upper_to, RENAME_EXCHANGE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _exchange_in_steps(upper.path, upper_to)


def _exchange_in_steps(upper: bytes, upper_to: bytes) -> None:
    """Swap the two where the filesystem cannot; an error leaves both as they were.

    A crash between the renames leaves no upper; the next mount makes a new one.
    """
    aside = upper_to + b".fresh"
    with ExitStack() as undo:
        for source, target in ((upper_to, aside), (upper, upper_to), (aside, upper)):
            os.rename(source, target)
            undo.callback(os.rename, target, source)
        undo.pop_all()


def _swap(state: State, writable: Writable, upper_to: bytes, fresh: Fd) -> None:
    upper = writable.upper
    with suppress(OSError):  # a filesystem without locks
        fcntl.flock(upper.root.fd(), fcntl.LOCK_UN)
    new = Layer(upper.path, fresh, -1, upper.dev, upper.fsid, upper.uuid, state.fds)
    new.reflinks, new.ordered, new.remote = upper.reflinks, upper.ordered, upper.remote
    new.journalled = upper.journalled
    new.fs_type, new.has_handles = upper.fs_type, upper.has_handles
    upper.path, upper.is_upper = upper_to, False
    state.generation += 1
    state.lowers = (upper, *state.lowers)
    for number, layer in enumerate((*state.lowers, *state.data)):
        layer.number = number
    writable.replace_upper(new)
    lowers = (upper_to, *state.config.lowers)
    state.config = state.config._replace(lowers=lowers)
    with state.table.lock:
        uppers = state.table.uppers
        root = next(d for d in uppers if d.parent is d)
        for d in uppers:
            if not d.dead:
                _push_down(d)
        uppers.clear()
        uppers.add(root)
    root.upper = new.root
    root.merged = True


def _push_down(d: Dir) -> None:
    """Make the upper part of `d` its topmost lower; its names are read at the next lookup."""
    real = d.require_upper()
    real.impure = d.impure
    d.lowers = (real, *d.lowers)
    d.upper = d.loaded = d.redirect = None
    d.impure = False
    d.stamp = ()


# -- files in use --


def _lay_out(state: State, work: WorkDir, fresh: Fd, writers: list[_Writer]) -> dict[Dir, Fd]:
    """Put the copies of `writers` into `fresh`, under all names of their files.

    Returns the directories in `fresh` that lead to them, each before those in it.
    """
    made: dict[Dir, Fd] = {}
    for writer in writers:
        at, first = work.fd, writer.copy
        for position, (parent, name) in enumerate(known_names(writer.node)):
            to = _lay_out_dir(state, fresh, made, parent)
            if position:
                link = partial(os.link, first, name, follow_symlinks=False)
                as_owner(partial(link, src_dir_fd=at, dst_dir_fd=to), (at, None), (to, None))
            else:
                rename = partial(os.rename, first, name, src_dir_fd=at, dst_dir_fd=to)
                as_owner(rename, (to, None))
                at, first = to, name
    for d, fd in made.items():
        with suppress(OSError):  # as in `mark_impure`
            set_mark((fd, None), state.marks.impure, b"y")
        st = os.stat(d.top().fd())
        utimens_at(fd, None, st.st_atime_ns, st.st_mtime_ns)
    return made


def _lay_out_dir(state: State, fresh: Fd, made: dict[Dir, Fd], d: Dir) -> Fd:
    """Return the directory for `d` in `fresh`; make it, and those above it, if they are missing."""
    missing = []
    while d not in made and d.parent is not d:
        missing.append(d)
        d = d.parent
    fd = made.setdefault(d, fresh)
    for below in reversed(missing):
        source = below.require_upper()  # what is in it has a name in the upper
        as_owner(partial(os.mkdir, below.name, 0o700, dir_fd=fd), (fd, None))
        opener = partial(os.open, below.name, _OPEN_DIR, dir_fd=fd)
        here = Fd(as_owner(opener, (fd, None)))
        wanted = users_own(state.marks)
        marks = upper_xattrs((source.fd(), None), wanted)
        if source.parent is not None:
            source.parent.impure = below.parent.impure
            origin = origin_of(state, source.parent, source.name)
            if origin is not None:
                marks[state.marks.origin] = origin
        st = os.stat(source.fd())
        copy_metadata((source.fd(), None), (here, None), st, wanted, marks, names=())
        made[below] = fd = here
    return fd


def _adopt(state: State, upper: Layer, made: dict[Dir, Fd]) -> None:
    """Make each directory in `made` the upper part of its union directory."""
    for d, fd in made.items():
        if d.parent is not d:
            d.upper = RealDir(upper, d.parent.upper, d.name)
            d.merged = True
            d.parent.note_upper(d.name, upper_entry(os.stat(fd)))
        d.impure = True
    with state.table.lock:
        state.table.uppers.update(made)


def _move(writer: _Writer) -> None:
    """Swap the file of `writer`, which moves to the new upper, with its copy."""
    node = writer.node
    for position, (parent, name) in enumerate(known_names(node)):
        old, new = parent.lowers[0], parent.require_upper()
        times = [(real, os.stat(real.fd())) for real in (old, new)]
        _exchange(old, new, name)
        for real, st in times:
            utimens_at(real.fd(), None, st.st_atime_ns, st.st_mtime_ns)
        parent.note_upper(name, node.rino << INO_SHIFT | DT_REG)
        if position == 0:
            node.real, node.rname = new, name


def _exchange(old: RealDir, new: RealDir, name: bytes) -> None:
    """Swap `name` of the old upper with that of the new one."""
    as_owner(partial(_swap_name, old.fd(), new.fd(), name), (old.fd(), None), (new.fd(), None))


def _swap_name(old: int, new: int, name: bytes) -> None:
    try:
        renameat2(old, name, new, name, RENAME_EXCHANGE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        aside = name[:200] + b".pyunion-swap"
        with suppress(FileNotFoundError):
            os.unlink(aside, dir_fd=old)
        os.rename(name, aside, src_dir_fd=new, dst_dir_fd=old)
        os.rename(name, name, src_dir_fd=old, dst_dir_fd=new)
        os.rename(aside, name, src_dir_fd=old, dst_dir_fd=old)
