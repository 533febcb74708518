"""The marks on a file: what it is a copy of, where its data is, how many links it has.

Decided here and only here: the st_ino an upper or copied file shows, and the way
from a metacopy to its data.

Source: overlayfs.rst "Metadata only copy up", "Index"; fs/overlayfs/namei.c:
ovl_check_metacopy_xattr(), ovl_verify_origin().
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import partial

from unionfs.core.inode import Data, File, union_ino
from unionfs.core.layer import RealDir
from unionfs.core.link_index import decode_delta
from unionfs.core.origin import decode_origin, encode_origin, origin_layer
from unionfs.core.owner_rights import as_owner, upper_mark
from unionfs.core.redirect import follow_file, split_redirect
from unionfs.core.state import State
from unionfs.core.whiteout import has_aufs_whiteout
from unionfs.core.xattr_ids import CAPABILITY
from unionfs.errors import fs_error
from unionfs.light_logging import Logger
from unionfs.syscalls import xattr
from unionfs.types import StIno

log = Logger(__name__)

_NO_DATA = 128  # blocks of 512 bytes that a file without data can have for its attributes


def origin_ino(state: State, value: bytes) -> StIno | None:
    """Return the st_ino of the file that the origin mark `value` names, None if it is unknown."""
    origin = decode_origin(value)
    if origin is None:
        return None
    layer = origin_layer(origin, state.lowers)
    return None if layer is None else union_ino(layer, origin.ino)


def mark_ino(state: State, real: RealDir, name: bytes) -> StIno | None:
    """Return the st_ino of the file that `name` in `real` is a copy of, None if it is no copy."""
    value = _read_mark(real, name, state.marks.origin.encode())
    return None if value is None else origin_ino(state, value)


def origin_of(state: State, real: RealDir, name: bytes) -> bytes | None:
    """Return the origin mark for a copy of lower `name` in `real`.

    A copy of a copy has the origin of the first file: all of them show its st_ino.
    """
    dir_fd = real.fd()
    if real.impure:
        value = _copied_from(state, real, name, _names_at(real, name))
        if value is not None and origin_ino(state, value) is not None:
            return value
    encode = partial(encode_origin, real.layer, dir_fd, name)
    return as_owner(encode, (dir_fd, None)) if real.layer.is_upper else encode()


def _names_at(real: RealDir, name: bytes) -> list[str]:
    """Return the names of the attributes of `name` in `real`.

    A freeze asks for them in directories of the upper that even their owner may not search.
    """
    listed = partial(xattr.list_at, real.fd(), name)
    return as_owner(listed, (real.fd(), None)) if real.layer.is_upper else listed()


def _first_origin(state: State, present: list[str]) -> bytes | None:
    """Return the name of the origin mark, among the marks `present`, whose st_ino a copy shows."""
    marks = (state.marks.first_origin, state.marks.origin)
    return next((mark.encode() for mark in marks if mark in present), None)


def _copied_from(state: State, real: RealDir, name: bytes, present: list[str]) -> bytes | None:
    mark = _first_origin(state, present)
    return None if mark is None else _read_mark(real, name, mark)


def _read_mark(real: RealDir, name: bytes, mark: bytes) -> bytes | None:
    """Return a mark of `name` in `real`, None if it has none.

    A mark in a lower cannot be read if the mode of the file keeps the daemon out: None then.
    To widen the mode, as in the upper, would change the lower.
    """
    if real.layer.is_upper:
        return upper_mark(real.fd(), name, mark)
    try:
        return xattr.get_at(real.fd(), name, mark)
    except PermissionError:
        return None


def shared_names(names: list[str]) -> tuple[str, ...]:
    """Return the names of the attributes of one file, of which most others have the same ones."""
    return tuple(map(sys.intern, names)) if names else ()


def note_names(state: State, node: File, present: list[str]) -> None:
    """Note the attributes of a file that was found just now, if only the union changes them."""
    if state.layers_immutable and not node.real.layer.remote:
        node.listed = shared_names(present)
        # Some uppers store it under a longer name.
        node.bare = not (present and any(name.endswith(CAPABILITY) for name in present))


def read_lower_marks(state: State, node: File, st: os.stat_result) -> StIno | None:
    """Apply the marks on a lower file to `node`; return the st_ino it was copied from."""
    real = node.real
    is_regular = stat.S_ISREG(st.st_mode)
    if real.layer.bottom or not (real.impure or is_regular):
        return None
    present = xattr.list_at(real.fd(), node.rname)
    note_names(state, node, present)
    if is_regular and state.marks.metacopy in present:
        node.data = _find_data(state, node, real)
    value = _copied_from(state, real, node.rname, present) if real.impure else None
    return None if value is None else origin_ino(state, value)


def has_lower_mark(state: State, node: File) -> bool:
    """Note the attributes of a regular file of a lower; tell whether one says where its data is."""
    present = xattr.list_at(node.real.fd(), node.rname)
    note_names(state, node, present)
    return state.marks.metacopy in present


def read_file_marks(
    state: State, node: File, dir_fd: int, name: bytes, st: os.stat_result
) -> StIno | None:
    """Apply the marks on an upper file to `node`; return the st_ino it was copied from."""
    marks = state.marks
    if not marks.can_carry(st.st_mode):
        return _read_index(state, node, dir_fd, name, st)
    try:
        present = xattr.list_at(dir_fd, name)
    except PermissionError:  # a directory that may not be searched
        present = as_owner(partial(xattr.list_at, dir_fd, name), (dir_fd, None))
    note_names(state, node, present)
    if not present:
        return None
    if marks.metacopy in present and node.kind == stat.S_IFREG:
        node.data = _find_data(state, node, node.real)
    index = state.index()
    indexed = index is not None and dir_fd == index.fd
    if marks.nlink in present and (indexed or st.st_nlink > 1):
        delta = upper_mark(dir_fd, name, marks.nlink.encode()) or b""
        node.nlink_delta = decode_delta(delta, st.st_nlink)
    mark = _first_origin(state, present)
    value = None if mark is None else upper_mark(dir_fd, name, mark)
    return None if value is None else origin_ino(state, value)


def _read_index(
    state: State, node: File, dir_fd: int, name: bytes, st: os.stat_result
) -> StIno | None:
    """Like `read_file_marks`, for a file that cannot carry marks: only the index has them.

    It has them for hard links only.
    """
    index = state.index()
    entry = None if index is None else index.entry_of(dir_fd, name, st)
    if index is None or entry is None:
        return None
    node.nlink_delta = index.delta(entry, st)
    return origin_ino(state, bytes.fromhex(entry.decode()))


def refuse_lost_data(state: State, node: File, fd: int, st: os.stat_result) -> None:
    """Raise EIO if `node`, open as `fd`, is a metacopy in the lowest layer: its data is nowhere.

    `st` are its attributes.  A lookup reads no marks there, as of most files.  But nothing of a
    metacopy is more than a hole, and that is no data to be shown.

    Source: fs/overlayfs/namei.c:ovl_lookup().
    """
    if not (node.real.layer.bottom and st.st_size) or st.st_blocks > _NO_DATA:
        return
    try:
        if os.lseek(fd, 0, os.SEEK_DATA):
            os.lseek(fd, 0, os.SEEK_SET)
        return
    except OSError as error:
        if error.errno != errno.ENXIO:
            return
    if state.marks.metacopy in xattr.list_fd(fd):
        raise _lost(node, node.real)


def _lost(node: File, real: RealDir) -> OSError:
    log.error("no layer has the data of the metacopy %r in %r", node.rname, real.full_path())
    return fs_error(errno.EIO)


def _find_data(state: State, node: File, real: RealDir) -> Data:
    """Return where the data of a metacopy lies; EIO if no layer has it."""
    dir_fd = real.fd()
    value = xattr.get_at(dir_fd, node.rname, state.marks.redirect.encode())
    # Not `rname`: the name of an entry of the index is in no layer.
    absolute, parts = (False, [node.name]) if value is None else split_redirect(value)
    if absolute:
        layers = state.lowers[real.layer.number + 1 :]
        place = follow_file(state.marks, layers, state.data, parts)
    else:
        merged = node.parent.lowers
        beneath = merged if real.layer.is_upper else merged[merged.index(real) + 1 :]
        place = _data_beneath(state, beneath, parts[0])
    if place is None:
        raise _lost(node, real)
    return Data(*place)


def _data_beneath(
    state: State, lowers: tuple[RealDir, ...], name: bytes
) -> tuple[RealDir, bytes] | None:
    """Return the place of the data of a metacopy, which is `name` in the directories `lowers`.

    These are merged beneath the one that has the metacopy.  A redirect of that may have moved
    them, and what it hides if it is opaque is not among them.
    """
    for below in lowers:
        try:
            st = os.stat(name, dir_fd=below.fd(), follow_symlinks=False)
        except FileNotFoundError:
            if has_aufs_whiteout(below.fd(), name):
                return None
            continue
        if not stat.S_ISREG(st.st_mode):
            return None
        present = xattr.list_at(below.fd(), name)
        if below.xwhiteouts and not st.st_size and state.marks.whiteout in present:
            return None
        if state.marks.metacopy not in present:
            return below, name
        if state.marks.redirect in present:
            value = xattr.get_at(below.fd(), name, state.marks.redirect.encode())
            absolute, parts = split_redirect(value or b"")
            if absolute:
                layers = state.lowers[below.layer.number + 1 :]
                return follow_file(state.marks, layers, state.data, parts)
            name = parts[0]
    return None
