"""Copies of lower files in the staging directory, before they have their names in the upper.

Decided here and only here: what a copy of a file is, and when its data is on disk.  The order
is data, owner, attributes, mode, times: a write drops capabilities, chown drops suid, and every
one of these steps changes the times.

Threading: the caller holds the copy lock of the file.

Source: overlayfs.rst "Non-directories", "Metadata only copy up", "Index";
fs/overlayfs/copy_up.c.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial

from unionfs.core.config import OverrideStat
from unionfs.core.file_marks import note_names, origin_of, refuse_lost_data
from unionfs.core.inode import File, in_upper
from unionfs.core.layer import Fd, open_untouched
from unionfs.core.link_index import LinkIndex, entry_name
from unionfs.core.marks_on_disk import waits_for_marks
from unionfs.core.metadata import copy_metadata, every, set_mark, users_own
from unionfs.core.origin import encode_origin
from unionfs.core.owner_rights import Place
from unionfs.core.owners import OWN, Stored
from unionfs.core.state import State, Writable
from unionfs.errors import fs_error
from unionfs.interrupts import stop_if_abandoned
from unionfs.light_typing import NamedTuple
from unionfs.syscalls import xattr
from unionfs.syscalls.attributes import touch
from unionfs.syscalls.copyfile import copy_range, try_reflink
from unionfs.syscalls.fallocate import fallocate
from unionfs.syscalls.statfs import EXT4, XFS
from unionfs.syscalls.statx import marks_at
from unionfs.syscalls.writeback import begin_write_back, write_back

_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_WRITE = stat.S_IRUSR | stat.S_IWUSR
_LARGE = 1 << 20  # bytes
_INSIDE = nullcontext()
_RIGHTS_OF_OTHERS = stat.S_IXUSR | stat.S_IRWXG | stat.S_IRWXO


class Copy(NamedTuple):
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


class Staged(NamedTuple):
    """A copy that is whole but for its name: its inode number, and an fd of a regular file.

    `safe` says that nothing has to be written to disk before the copy gets its name.
    """

    copy: Copy
    ino: int
    fd: Fd | None
    safe: bool = False


def plan_copy(
    state: State,
    writable: Writable,
    node: File,
    size: int | None,
    *,
    metadata_only: bool = False,
    st: os.stat_result | None = None,
) -> Copy:
    """Decide what the copy of the lower file `node` will be, whose stat is `st` if it is known."""
    fd, name = node.real.fd(), node.rname
    if st is None:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    metacopy = state.config.metacopy and metadata_only
    protected = 0 if node.unlinked else marks_at(fd, name)
    # The data of an append-only copy could not be completed.
    metacopy = metacopy and stat.S_ISREG(st.st_mode) and st.st_size > 0 and not protected
    copy = Copy(
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
    origin = origin_of(state, node.real, name)
    if st.st_nlink == 1 and origin is not None:
        copy.marks[state.marks.origin] = origin
    elif st.st_nlink > 1 and writable.index is not None:
        copy = _plan_link(copy, writable.index, origin)
    return copy


def _plan_link(copy: Copy, index: LinkIndex, origin: bytes | None) -> Copy:
    """Return the plan for a hard link, whose file gets into the index.

    Without an index nothing will lead from the other links, which show the lower's st_ino, to
    the copy: it becomes a file of its own, with its own st_ino.
    """
    node, marks = copy.node, copy.state.marks
    fd, name = copy.source
    # A lookup of another link searches the index by the inode that it is a link of.
    linked = encode_origin(node.real.layer, fd, name)
    if linked is not None:
        copy.marks[marks.origin] = linked
        copy = copy._replace(link_index=index, entry=entry_name(linked))
    if origin is not None and origin != linked:
        copy.marks[marks.first_origin] = origin
    return copy


def stage_copy(copy: Copy, *, stay: bool = False) -> Staged:
    """Make a whole copy of the file in the staging directory, and leave nothing if that fails.

    The data may still have to be written to disk, see `secure_data`.  With `stay` the thread
    does not leave the gate: its request has changed something, and goes on with that.
    """
    try:
        if copy.node.kind == stat.S_IFREG:
            return _stage_regular(copy, stay)
        work, (fd, name) = copy.writable.work.fd, copy.source
        if copy.node.kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=fd), copy.name, dir_fd=work)
        else:
            os.mknod(copy.name, copy.node.kind | 0o600, copy.st.st_rdev, dir_fd=work)
        stored = copy.state.owners.stored(copy.node.real.layer, copy.source, copy.st)
        _give_metadata(copy, (work, copy.name), stored)
        made = os.stat(copy.name, dir_fd=work, follow_symlinks=False)
        return Staged(copy, made.st_ino, None)
    except BaseException:
        copy.writable.work.discard(copy.name)
        raise


def _stage_regular(copy: Copy, stay: bool) -> Staged:
    state, st = copy.state, copy.st
    stored = state.owners.stored(copy.node.real.layer, copy.source, st)
    # Its own mode at once, if that lets the owner set attributes, and chown takes nothing away.
    mode = stored.mode if stored.mode & ~_RIGHTS_OF_OTHERS == _READ_WRITE else _READ_WRITE
    fd = state.with_room(partial(_open_new, mode), copy.name, copy.writable.work.fd)
    made, safe = os.fstat(fd), False
    if copy.metacopy:
        os.ftruncate(fd, st.st_size)
    else:
        shared = copy_data(state, copy.node, fd, copy.size, stay=stay)
        # XFS writes the data of the lower first, and its log has each change in the order in
        # which they were made: after a crash the name is there only if all before it is.
        # Source: fs/remap_range.c:generic_remap_file_range_prep().
        safe = shared and copy.writable.upper.fs_type == XFS
        if st.st_size and copy.writable.upper.ordered and not state.config.volatile:
            begin_write_back(fd)  # the disk writes while we do the other steps
    _give_metadata(copy, (fd, None), stored, made)
    if copy.metacopy:
        # The last one: what an inode has no room for is in a block of its own, and ext4 has one
        # such block for many files if it is the same for all of them.
        set_mark((fd, None), state.marks.metacopy, b"")
    if copy.size is not None:
        # The copy lacks a part of the data, so it must not have the old mtime.
        touch(fd)
    return Staged(copy, made.st_ino, fd, safe)


def _open_new(mode: int, name: bytes, dir_fd: int) -> Fd:
    return Fd(os.open(name, _NEW, mode, dir_fd=dir_fd))


def _give_metadata(
    copy: Copy, target: Place, stored: Stored, made: os.stat_result | None = None
) -> None:
    """Give the new file `target` the metadata of the lower, which is `stored`.

    `made` are the attributes that it has, None if they are not known.
    """
    state, names = copy.state, _attributes(copy)
    wanted = users_own(state.marks) if names else every
    convert = partial(state.owners.copied_xattr, copy.node.real.layer) if names else None
    if made is not None:
        stored = _lacking(stored, made, has_attributes=bool(names))
    copy_metadata(copy.source, target, copy.st, wanted, copy.marks, stored, convert, names)


def _lacking(stored: Stored, made: os.stat_result, *, has_attributes: bool) -> Stored:
    """Return what a new file, with the attributes `made`, does not have yet of `stored`."""
    uid, gid, mode, marks, may_fail = stored
    if (made.st_uid, made.st_gid) == (uid, gid):
        uid = gid = OWN
    if stat.S_IMODE(made.st_mode) == mode and not has_attributes:  # an attribute may change it
        mode = OWN
    return Stored(uid, gid, mode, marks, may_fail)


def _attributes(copy: Copy) -> Sequence[str]:
    """Return the names of the attributes of the lower, which are read once."""
    node = copy.node
    if node.found_size >= 0 and node.listed is not None:
        return node.listed
    fd, name = copy.source
    names = xattr.list_at(fd, name)
    note_names(copy.state, node, names)
    return names


def is_unsafe(staged: Staged) -> bool:
    """Tell whether `staged` has to be on disk before its name is, and may not be.

    A metacopy without its marks would be an empty file, and so would a device that is stored
    as an empty file with a mark.
    """
    copy = staged.copy
    if staged.fd is None or staged.safe:
        return False
    if copy.metacopy or not copy.st.st_size:
        marked = copy.metacopy or copy.state.config.override is not OverrideStat.NONE
        return marked and waits_for_marks(copy.state)
    return not copy.state.config.volatile


def secure_data(staged: Staged) -> None:
    """Wait until `staged` is on disk, unless it is safe or the mount is volatile."""
    copy, fd = staged.copy, staged.fd
    if fd is None or not is_unsafe(staged):
        return
    with copy.state.gate.outside():
        if copy.writable.upper.ordered and not copy.metacopy:
            write_back(fd)  # fsync would also wait for a commit of the journal
        else:
            os.fsync(fd)


def copy_data(
    state: State, node: File, staged: int, size: int | None, *, stay: bool = False
) -> bool:
    """Copy the first `size` bytes of the data of `node` into `staged`; None copies all.

    Returns whether the files share the data now.  `stay` is that of `stage_copy`.
    """
    if size == 0:
        return False
    real, name = node.data_place()
    source, st = state.with_room(open_untouched, name, real.fd())
    if node.data is None and st.st_ino != node.rino:
        raise fs_error(errno.ESTALE)  # the layer was changed from outside
    if node.data is None:
        refuse_lost_data(state, node, source, st)
    length = st.st_size if size is None else min(size, st.st_size)
    if length == st.st_size and real.layer.reflinks and length > 0:
        if try_reflink(source, staged):
            return True
        real.layer.reflinks = False
    holes = st.st_blocks * 512 < st.st_size
    written = None
    if length >= _LARGE:
        if not holes and state.require_upper().upper.fs_type == EXT4:
            _allocate(staged, length)
        if not state.config.volatile:
            # The disk writes what is copied while we copy the rest, for which a program waits.
            written = partial(_begin_to_write, staged)
    # Not outside the gate where a freeze must not move meanwhile what has been changed, such as
    # the upper file itself, to which the data is written.
    with _INSIDE if stay or in_upper(node) else state.gate.outside():
        pause = stop_if_abandoned
        copy_range(source, staged, length, holes=holes, pause=pause, written=written)
    return False


def _allocate(fd: int, length: int) -> None:
    """Have ext4 allocate all blocks at once, which it otherwise reserves one by one."""
    try:
        fallocate(fd, 0, 0, length)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):  # a file without extents
            raise


def _begin_to_write(fd: int, offset: int, length: int) -> None:
    with suppress(OSError):  # what waits for the end gets the error
        begin_write_back(fd, offset, length)
