"""Owners: the ids stored on disk, the ids shown in the mount, and those for new files.

A layer on an idmapped mount shows its ids as the maps would: they are not mapped again, and
a copy_up translates them into those of the upper.  So it is with the ids in access control
lists and file capabilities; but `squash` leaves these alone.

Source: fuse-overlayfs(1) "uidmapping", "gidmapping", "squash_to_uid", "squash_to_gid";
mount_setattr(2) "ID-mapped mounts".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import MappingProxyType

from unionfs.core import xattr_ids
from unionfs.core.config import IdRange, UnionConfig
from unionfs.core.layer import Layer
from unionfs.core.owner_rights import Place
from unionfs.errors import fs_error
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.fsids import FsIds

OVERFLOW_ID = 65534

# Errors of chown(2) for want of a right, and for an id that a user namespace does not have.
NOT_ALLOWED = (errno.EPERM, errno.EINVAL)

OWN = -1
"""The id or the mode that a file has already."""

_AS_OURSELVES = nullcontext()


class Stored(NamedTuple):
    """Owner, permission bits and further attributes of a real file; OWN for what it has.

    `may_fail` says that the file stays the daemon's if that may not give it away.
    """

    uid: int
    gid: int
    mode: int
    marks: Mapping[str, bytes] = MappingProxyType({})
    may_fail: bool = False


class Owners:
    """The id rules of one mount.

    `plain` says that ids are shown as they are stored, `maps` that they are mapped.
    `in_attributes` says that files of the upper have their owner and mode in an attribute.
    """

    in_attributes = False

    def __init__(self, config: UnionConfig) -> None:
        self._uid_map = config.uid_map
        self._gid_map = config.gid_map
        self._unmapped = OVERFLOW_ID if config.overflow_ids else None
        self._squash_uid = config.squash_uid
        self._squash_gid = config.squash_gid
        self.maps = bool(config.uid_map or config.gid_map)
        self.plain = not self.maps and config.squash_uid is None and config.squash_gid is None
        self._squashes = config.squash_uid is not None or config.squash_gid is not None
        self._own = (os.geteuid(), os.getegid())
        self.privileged = self._own[0] == 0

    def shown_uid(self, uid: int) -> int:
        if self._squash_uid is not None:
            return self._squash_uid
        return _shown(self._uid_map, uid)

    def shown_gid(self, gid: int) -> int:
        if self._squash_gid is not None:
            return self._squash_gid
        return _shown(self._gid_map, gid)

    def stored_uid(self, uid: int) -> int:
        """Return the id to store for a user shown as `uid`; EOVERFLOW if there is none."""
        return uid if self._squash_uid is not None else _lookup(self._uid_map, uid, self._unmapped)

    def stored_gid(self, gid: int) -> int:
        """Return the id to store for a group shown as `gid`; EOVERFLOW if there is none."""
        return gid if self._squash_gid is not None else _lookup(self._gid_map, gid, self._unmapped)

    def shown(self, layer: Layer, st: os.stat_result) -> tuple[int, int]:
        """Return the owner and group to show for a file of `layer`, whose stat is `st`."""
        if layer.idmapped:
            return (
                st.st_uid if self._squash_uid is None else self._squash_uid,
                st.st_gid if self._squash_gid is None else self._squash_gid,
            )
        return self.shown_uid(st.st_uid), self.shown_gid(st.st_gid)

    def stored(self, layer: Layer, source: Place, st: os.stat_result) -> Stored:
        """Return what a copy in the upper stores of `source` in `layer`, whose stat is `st`."""
        uid, gid = st.st_uid, st.st_gid
        if layer.idmapped:
            uid = _lookup(self._uid_map, uid, OVERFLOW_ID)
            gid = _lookup(self._gid_map, gid, OVERFLOW_ID)
        return Stored(uid, gid, stat.S_IMODE(st.st_mode), may_fail=self._squashes)

    def shown_xattr(self, layer: Layer, name: str, value: bytes) -> bytes:
        """Return the value to show for attribute `name` of a file of `layer` that has `value`."""
        if not self.maps or layer.idmapped or name not in xattr_ids.WITH_IDS:
            return value
        uid, gid = partial(_shown, self._uid_map), partial(_shown, self._gid_map)
        return xattr_ids.shown(name, value, uid, gid)

    def stored_xattr(self, name: str, value: bytes) -> bytes:
        """Return the value to store for attribute `name`; EOVERFLOW for an id without a place."""
        if not self.maps or name not in xattr_ids.WITH_IDS:
            return value
        return self._stored_xattr(name, value, self._unmapped)

    def copied_xattr(self, layer: Layer, name: str, value: bytes) -> bytes:
        """Return the value to store in the upper for attribute `name` of a file of `layer`."""
        if not layer.idmapped or name not in xattr_ids.WITH_IDS:
            return value
        return self._stored_xattr(name, value, OVERFLOW_ID)

    def _stored_xattr(self, name: str, value: bytes, unmapped: int | None) -> bytes:
        return xattr_ids.stored(
            name,
            value,
            lambda uid: _lookup(self._uid_map, uid, unmapped),
            lambda gid: _lookup(self._gid_map, gid, unmapped),
        )

    def giving(self) -> AbstractContextManager[None]:
        """Return a context for a chown(2).  If ids are squashed it may fail, which does not show.

        A daemon without privilege can give no file away, and root of a user namespace none to
        an id that the namespace does not have.
        """
        return _unless_not_allowed() if self._squashes else _AS_OURSELVES

    def gives_to(self, uid: int, gid: int) -> bool:
        """Tell whether the files that `uid`:`gid` creates are to be of other ids than our own."""
        if (uid, gid) == self._own and self.plain:
            return False
        return self.privileged and not self._squashes

    def creating(self, uid: int, gid: int) -> AbstractContextManager[None]:
        """Return a context in which the files that this thread creates belong to `uid`:`gid`.

        The files of an unprivileged daemon belong to the daemon, and so do all files if
        ids are squashed.
        """
        if not self.gives_to(uid, gid):
            return _AS_OURSELVES
        return FsIds(self.stored_uid(uid), self.stored_gid(gid))


@contextmanager
def _unless_not_allowed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_ALLOWED:
            raise


def _shown(ranges: tuple[IdRange, ...], stored: int) -> int:
    if not ranges:
        return stored
    for span in ranges:
        if span.stored <= stored < span.stored + span.length:
            return span.shown + stored - span.stored
    return OVERFLOW_ID


def _lookup(ranges: tuple[IdRange, ...], shown: int, unmapped: int | None) -> int:
    """Return the id stored for `shown`; `unmapped`, or EOVERFLOW, if no range has it."""
    if not ranges:
        return shown
    for span in ranges:
        if span.shown <= shown < span.shown + span.length:
            return span.stored + shown - span.shown
    if unmapped is None:
        raise fs_error(errno.EOVERFLOW)
    return unmapped
