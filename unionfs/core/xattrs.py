"""Extended attributes: those of users, the union's hidden marks, and the virtual ones.

Decided here and only here: which names are private, and how a user's attribute
of a private name is stored (one level deeper, so that unions can be nested).

Source: overlayfs.rst "Nesting overlayfs mounts"; fs/overlayfs/xattrs.c; xattr(7).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from unionfs.core.copy_up import copy_up_dir, copy_up_file
from unionfs.core.file_marks import shared_names
from unionfs.core.inode import Dir, File, Node
from unionfs.core.introspect import VIRTUAL_PREFIXES, virtual_value
from unionfs.core.layer import Fd, Layer, RealDir
from unionfs.core.owner_rights import modes_settled
from unionfs.core.protection import refuse, require_changeable
from unionfs.core.real_file import AtRest
from unionfs.core.state import State
from unionfs.core.whiteout import FUSE_OVERLAYFS_PREFIX
from unionfs.core.xattr_ids import ACLS, CAPABILITY, DEFAULT_ACL, WITH_IDS
from unionfs.errors import fs_error
from unionfs.syscalls import xattr
from unionfs.syscalls.lowered import keeping_sgid
from unionfs.syscalls.statx import marks_at

_XATTR_NAME_MAX = 255
# If a file has one of these, listxattr(2) names it; programs ask for them without listing.
_LISTED = {name.encode(): name for name in WITH_IDS}
_CAPABILITY = CAPABILITY.encode()
_ACLS = frozenset(name.encode() for name in ACLS)
_WITH_IDS = frozenset(name.encode() for name in WITH_IDS)


def getxattr(state: State, node: Node, name: bytes) -> bytes:
    """Return a value; ENODATA if there is none.

    So it is for an access control list where the filesystem has none, as NFS 4: the kernel asks for
    it to check permissions, and EOPNOTSUPP would be the error of the access.
    """
    try:
        return _value(state, node, name)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP and name in _ACLS:
            raise fs_error(errno.ENODATA) from None
        raise


def _value(state: State, node: Node, name: bytes) -> bytes:
    if lacks(state, node, name):
        raise fs_error(errno.ENODATA)
    if name.startswith(VIRTUAL_PREFIXES):
        value = virtual_value(state, node, name)
        if value is None:
            raise fs_error(errno.ENODATA)
        return value
    if state.owners.maps and name in _WITH_IDS:
        return _mapped(state, node, name)
    stored = _stored_name(state, name)
    place = _lasting_place(node)
    if place is not None:
        try:
            return xattr.value_at(*place, stored)
        except PermissionError:
            if isinstance(node, File):
                raise
            # A directory that may not be searched is reached by its fd alone.
    with _reach(node) as (path, follows):
        return os.getxattr(path, stored, follow_symlinks=follows)


def lacks(state: State, node: Node, name: bytes) -> bool:
    """Tell whether `node` is known not to have the attribute `name`."""
    if name not in _LISTED:
        return False
    if type(node) is File and node.bare and name == _CAPABILITY:
        return True
    names = _lasting_names(state, node)
    return names is not None and _LISTED[name] not in names


def _lasting_names(state: State, node: Node) -> tuple[str, ...] | None:
    """Return the names of the attributes of a lower file or directory, which are read once.

    None if they may change, or where the filesystem may have attributes that it does not list.
    """
    if isinstance(node, Dir):
        return _names_of_dir(node.top()) if state.layers_immutable else None
    if not isinstance(node, File) or node.found_size < 0:
        return None
    real = node.real
    if real.layer.is_upper or real.layer.remote:
        return None
    if node.listed is None:
        node.listed = shared_names(xattr.list_at(real.fd(), node.rname))
    return node.listed


def _names_of_dir(real: RealDir) -> tuple[str, ...] | None:
    if real.listed is None and not real.layer.is_upper and not real.layer.remote:
        with suppress(PermissionError):  # it may not be searched
            real.listed = shared_names(xattr.list_at(real.fd(), b"."))
    return real.listed


def _mapped(state: State, node: Node, name: bytes) -> bytes:
    """Return a value with the ids that the mount shows."""
    while True:
        layer = _layer_of(node)
        with _reach(node) as (path, follows):
            value = os.getxattr(path, name, follow_symlinks=follows)
        if _layer_of(node) is layer:  # else it was copied up meanwhile
            return state.owners.shown_xattr(layer, name.decode(), value)


def _layer_of(node: Node) -> Layer:
    if isinstance(node, Dir):
        return node.top().layer
    assert isinstance(node, File)
    return node.real.layer


def listxattr(state: State, node: Node) -> list[bytes]:
    """Return the names of the attributes that users set, escaped or not."""
    prefix, escaped = state.marks.prefix, state.marks.escaped
    names: list[bytes] = []
    for name in _stored_names(state, node):
        if name.startswith(prefix):
            if not name.startswith(escaped):
                continue
            name = prefix + name[len(escaped) :]
        elif name.startswith(FUSE_OVERLAYFS_PREFIX):
            continue
        names.append(os.fsencode(name))
    return names


def _stored_names(state: State, node: Node) -> Sequence[str]:
    known = _lasting_names(state, node)
    if known is not None:
        return known
    place = _lasting_place(node)
    if place is not None:
        try:
            return xattr.list_at(*place)
        except PermissionError:
            if isinstance(node, File):
                raise  # as in `getxattr`
    try:
        with _reach(node) as (path, follows):
            return os.listxattr(path, follow_symlinks=follows)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise


def setxattr(state: State, node: Node, name: bytes, value: bytes, flags: int) -> None:
    """Set a value in the upper, after a copy_up if one is needed."""
    state.require_upper()
    stored = _changeable_name(state, name)
    if flags & os.XATTR_REPLACE:
        getxattr(state, node, name)
    if name in _WITH_IDS:
        value = state.owners.stored_xattr(name.decode(), value)
    bring_up(state, node)
    if isinstance(node, File):
        node.bare = False
    with _reach(node) as (path, follows), _changing_mode(name):
        os.setxattr(path, stored, value, flags, follow_symlinks=follows)
    _note_acl(node, name)


@contextmanager
def _changing_mode(name: bytes) -> Iterator[None]:
    """Let attribute `name` change the mode, as an access control list does, but not sgid."""
    if name not in _ACLS:
        yield
        return
    with modes_settled(), keeping_sgid(stat.S_ISGID):
        yield


def removexattr(state: State, node: Node, name: bytes) -> None:
    """Remove a value; ENODATA, without a copy_up, if there is none.

    To remove an access control list that is not there is no error.
    """
    state.require_upper()
    stored = _changeable_name(state, name)
    try:
        getxattr(state, node, name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            refuse(_marks_of(node))
            if name in _ACLS:
                return
        if name != _CAPABILITY or error.errno != errno.EINVAL:  # a malformed one can be removed
            raise
    bring_up(state, node)
    with _reach(node) as (path, follows):
        os.removexattr(path, stored, follow_symlinks=follows)
    _note_acl(node, name)


def _marks_of(node: Node) -> int:
    if isinstance(node, Dir):
        return marks_at(node.top().fd(), b"")
    assert isinstance(node, File)
    with AtRest(node) as (fd, name):
        return marks_at(fd, name or b"")


def _note_acl(node: Node, name: bytes) -> None:
    if isinstance(node, Dir) and name == DEFAULT_ACL.encode():
        node.default_acl = None


def bring_up(state: State, node: Node) -> None:
    """Copy the metadata of `node` to the upper, unless it is there already."""
    if isinstance(node, Dir):
        require_changeable(node)
        if node.dead:
            node.require_upper()
        else:
            copy_up_dir(state, node)
    elif isinstance(node, File):
        copy_up_file(state, node, metadata_only=True)


def _stored_name(state: State, name: bytes) -> bytes:
    """Return the name under which a user's `name` is stored; EOPNOTSUPP if there is none."""
    if not name.startswith(state.marks.prefix.encode()):
        return name
    stored = state.marks.escaped.encode() + name[len(state.marks.prefix) :]
    if len(stored) > _XATTR_NAME_MAX:
        raise fs_error(errno.EOPNOTSUPP)
    return stored


def _changeable_name(state: State, name: bytes) -> bytes:
    if name.startswith((*VIRTUAL_PREFIXES, FUSE_OVERLAYFS_PREFIX.encode())):
        raise OSError(errno.EPERM, "the attribute is the union's own")
    return _stored_name(state, name)


def _lasting_place(node: Node) -> tuple[Fd, bytes] | None:
    """Return an fd of a directory and a name in it that lead to `node`, and cannot change.

    None for a file in the upper, which can be renamed, and for one of which an fd is kept.
    """
    if isinstance(node, Dir):
        return node.top().fd(), b"."
    assert isinstance(node, File)
    real, rname = node.real, node.rname
    # The name in a lower is as old as `real`, if that is still the place.
    if real.layer.is_upper or node.orphan is not None or node.real is not real:
        return None
    if real.kept is not None and rname in real.kept:
        return None
    return real.fd(), rname


@contextmanager
def _reach(node: Node) -> Iterator[tuple[bytes, bool]]:
    """Yield a path to the real file, valid meanwhile, and whether to follow it.

    If the file is reached by an fd of its own, the path is a magic link of /proc, which
    has to be followed.
    """
    if isinstance(node, Dir):
        fd = node.top().fd()
        yield b"/proc/self/fd/%d" % fd, True
        return
    assert isinstance(node, File)
    with AtRest(node) as (fd, name):
        if name is None:
            yield b"/proc/self/fd/%d" % fd, True
        else:
            yield xattr.at(fd, name), False
