"""Copy the metadata of a file: owner, extended attributes, mode and times.

Decided here and only here: the order (chown drops suid, a mode may forbid setting
attributes, each of them changes the times), and which attributes may be left out.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from unionfs.core.owner_rights import Place, as_owner
from unionfs.core.owners import NOT_ALLOWED, OWN, Stored
from unionfs.core.whiteout import FUSE_OVERLAYFS_PREFIX, Marks
from unionfs.syscalls import xattr
from unionfs.syscalls.attributes import chmod, chmod_at, utimens_at

# A write to a file must not fail because the target's filesystem cannot store an
# attribute, or because only a privileged daemon may set it.
_LEFT_OUT = (errno.EOPNOTSUPP, errno.EPERM)


def copy_metadata(
    source: Place,
    target: Place,
    st: os.stat_result,
    wanted: Callable[[str], bool],
    marks: Mapping[str, bytes] | None = None,
    stored: Stored | None = None,
    convert: Callable[[str, bytes], bytes] | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Give `target` the owner, attributes, mode and times of `source`, whose stat is `st`.

    Only attributes for whose name `wanted` returns True are copied; `marks` are set too.
    `stored` has the owner, the mode and further marks, None for those in `st`.  `convert`
    returns the value to set for the name and value of an attribute.  `names` are those of
    the attributes of `source`, if they are known.
    """
    fd, name = target
    stored = stored or Stored(st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode))
    _give(target, stored)
    for attribute in _names(source) if names is None else names:
        if wanted(attribute):
            value = _value(source, attribute)
            if value is not None:
                copied = value if convert is None else convert(attribute, value)
                set_xattr(target, attribute, copied)
    for given in (marks, stored.marks):
        for mark, value in given.items() if given else ():
            set_xattr(target, mark, value)
    if stored.mode != OWN and not stat.S_ISLNK(st.st_mode):
        if name is None:
            chmod(fd, stored.mode)
        else:
            chmod_at(fd, name, stored.mode)
    utimens_at(fd, name, st.st_atime_ns, st.st_mtime_ns)


def upper_xattrs(source: Place, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Return the attributes of `source`, which is in the upper, for whose name `wanted` is True.

    Its mode may forbid even its owner to read them.
    """

    def read() -> dict[str, bytes]:
        found = {name: _value(source, name) for name in filter(wanted, _names(source))}
        return {name: value for name, value in found.items() if value is not None}

    return as_owner(read, source)


def _give(target: Place, stored: Stored) -> None:
    fd, name = target
    if stored.uid == stored.gid == OWN:
        return
    try:
        if name is None:
            os.chown(fd, stored.uid, stored.gid)
        else:
            os.chown(name, stored.uid, stored.gid, dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if not stored.may_fail or error.errno not in NOT_ALLOWED:
            raise


def users_own(marks: Marks) -> Callable[[str], bool]:
    """Return a test for the attributes that users set, which are all but the union's marks.

    An attribute that a user set under a private name is stored escaped, and is copied.
    """
    private, escaped = (marks.prefix, FUSE_OVERLAYFS_PREFIX), marks.escaped
    return lambda name: not name.startswith(private) or name.startswith(escaped)


def every(_name: str) -> bool:
    """Return True for every attribute, also for the marks of a union."""
    return True


def set_xattr(place: Place, attribute: str, value: bytes) -> None:
    """Set an attribute, unless the filesystem or our privileges do not allow it.

    Links and devices cannot have user.* attributes (xattr(7)).
    """
    try:
        set_mark(place, attribute, value)
    except OSError as error:
        if error.errno not in _LEFT_OUT:
            raise


def set_mark(place: Place, attribute: str, value: bytes) -> None:
    """Set an attribute that the union depends on."""
    try:
        _set(place, attribute, value)
    except PermissionError:
        as_owner(lambda: _set(place, attribute, value), place)


def remove_mark(place: Place, attribute: str) -> None:
    """Remove an attribute that the union depends on; no error if it is absent."""
    fd, name = place
    target = fd if name is None else xattr.at(fd, name)
    remove = partial(os.removexattr, target, attribute, follow_symlinks=name is None)
    try:
        as_owner(remove, place)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def _set(place: Place, attribute: str, value: bytes) -> None:
    fd, name = place
    if name is None:
        os.setxattr(fd, attribute, value)
    else:
        os.setxattr(xattr.at(fd, name), attribute, value, follow_symlinks=False)


def _names(place: Place) -> list[str]:
    fd, name = place
    return xattr.list_fd(fd) if name is None else xattr.list_at(fd, name)


def _value(place: Place, attribute: str) -> bytes | None:
    fd, name = place
    raw = os.fsencode(attribute)
    return xattr.get_fd(fd, raw) if name is None else xattr.get_at(fd, name, raw)
