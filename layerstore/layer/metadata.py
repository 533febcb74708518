"""Owners, modes and attributes: what an archive may set, and how it is stored.

Decided here and only here: which extended attributes of an archive are kept,
renamed or dropped, and how an owner is recorded if chown(2) is refused.

- The marks of overlayfs are never taken from an archive.  A name in the namespace that the
  union uses is stored one level deeper, as the union stores it for its users.  Names in
  the other namespaces, which another program might interpret, are dropped.  So is
  `user.containers.override_stat`.
- security.selinux, security.ima, security.evm and system.nfs4_acl belong to
  the machine on which they were made, and are dropped.
- Without privilege the user's own id stands for root.  Another owner, a
  device, or a mode that denies its owner access is recorded in
  `user.containers.override_stat` as containers/storage does, `security.*` in
  `user.containers.override_<name>` as fuse-overlayfs does.

Source: overlayfs.rst "Nesting overlayfs mounts"; `unionfs.core.override_format`; umoci
oci/layer.
"""

from __future__ import annotations

import errno
import os
import stat

from layerstore.layer.records import (
    OVERRIDE_PREFIX,
    OVERRIDE_STAT,
    believed,
    believed_name,
    mode_on_disk,
)
from unionfs import FUSE_OVERLAYFS_PREFIX, Marks, Override
from unionfs.light_typing import NamedTuple, Protocol
from unionfs.syscalls import xattr
from unionfs.syscalls.privilege import is_machine_root

_DROPPED = (b"security.selinux", b"security.ima", b"security.evm", b"system.nfs4_acl")
_NEVER_SET = (
    *_DROPPED,
    OVERRIDE_PREFIX,
    FUSE_OVERLAYFS_PREFIX.encode(),
    b"trusted.overlay.",
    b"user.overlay.",
)
_NAME_MAX = 255
# What an archive says in vain on a filesystem, or for a kind of file, that has no attributes.
_TOO_LARGE = (errno.E2BIG, errno.ENOSPC, errno.EDQUOT)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL)

Xattrs = list[tuple[bytes, bytes]]


def ids_of_root() -> tuple[frozenset[int], frozenset[int]]:
    """Return the uids and gids that stand for root if this process has no privilege.

    They are our own, both in our user namespace and outside of it: files that were made in
    one of them may be read in the other.
    """
    if is_machine_root():
        return frozenset((0,)), frozenset((0,))
    return (
        frozenset((0, os.geteuid(), _outside("uid"))),
        frozenset((0, os.getegid(), _outside("gid"))),
    )


def _outside(kind: str) -> int:
    with open(f"/proc/self/{kind}_map", "rb") as ids:
        first = ids.readline().split()
    return int(first[1]) if first else 0


class Metadata:
    """How owners and attributes are stored in the layers of one store.

    `privileged` says that this process is root outside of any user namespace.
    """

    def __init__(self, *, privileged: bool) -> None:
        self.privileged = privileged
        self.marks = Marks(userxattr=not privileged)
        self.uid, self.gid = os.geteuid(), os.getegid()
        # Root of a user namespace may give files to the ids mapped into it.
        self.may_chown = privileged or self.uid == 0
        # The owner of a new file; without privilege that stands for root.
        self.ours = (self.uid, self.gid) if self.may_chown else (0, 0)
        self._own = self.marks.prefix.encode()

    def stored_xattrs(self, xattrs: Xattrs) -> Xattrs:
        """Return the attributes to set on disk for the attributes `xattrs` in an archive."""
        kept: Xattrs = []
        for name, value in xattrs:
            if name.startswith(self._own):
                name = self.marks.escaped.encode() + name[len(self._own) :]
                if len(name) > _NAME_MAX:
                    continue
            elif name.startswith(_NEVER_SET) or not 0 < len(name) <= _NAME_MAX or b"\0" in name:
                continue
            elif name == b"security.capability" and not value:
                continue  # setxattr(2) takes it, but the kernel then shows and copies none
            kept.append((name, value))
        return kept

    def owner(self, uid: int, gid: int, *, kept: bool) -> tuple[int, int]:
        """Return the owner on disk of a file of `uid` and `gid`; `kept` says if chown worked."""
        if self.may_chown and kept:
            return uid, gid
        return self.uid, self.gid

    def chown(self, place: int | tuple[int, bytes], uid: int, gid: int) -> bool:
        """Give the file at `place`, an fd or a name in a directory, to `uid` and `gid`.

        No link is followed.  False if it is refused.
        """
        if not self.may_chown:
            return uid == gid == 0
        try:
            if isinstance(place, int):
                os.fchown(place, uid, gid)
            else:
                os.chown(place[1], uid, gid, dir_fd=place[0], follow_symlinks=False)
        except OSError as error:
            # EINVAL: the id is not mapped into the user namespace.
            if self.privileged or error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            return False
        return True

    def own(
        self,
        place: int | tuple[int, bytes],
        entry: Owned,
        mode: int,
        rdev: int = 0,
        *,
        record: bool = False,
    ) -> tuple[int, int, bool]:
        """Set owner and attributes of the new file at `place`, an fd or a name in a directory.

        `record` says that its type has to be recorded.  Returns the owner it has
        on disk, and whether it has attributes.
        """
        uid, gid = entry.uid, entry.gid
        at = place if isinstance(place, int) else xattr.at(*place)
        if (uid, gid) != self.ours and not self.chown(place, uid, gid):
            record = True
        uid, gid = self.owner(uid, gid, kept=not record)
        xattrs = entry.xattrs
        if not xattrs and not record and self.mode_on_disk(mode) == mode:
            return uid, gid, False
        kept = self.stored_xattrs(xattrs)
        if record or self.mode_on_disk(mode) != mode:
            value = Override(entry.uid, entry.gid, mode, rdev).encode()
            kept.append((OVERRIDE_STAT, value))
        return uid, gid, self.set_xattrs(at, kept)

    def shown(self, st: os.stat_result, xattrs: Xattrs) -> Shown:
        """Return the entry's fields for a file with `st` and the attributes that users see.

        This is the reverse of what is done with an archive's entry when it is unpacked.
        """
        mode, uid, gid = st.st_mode, st.st_uid, st.st_gid
        rdev = st.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
        if not self.privileged and self.uid != 0:
            uid, gid = 0 if uid == self.uid else uid, 0 if gid == self.gid else gid
        if not xattrs:
            return Shown(mode, uid, gid, rdev, st.st_mtime_ns, xattrs)
        kept: Xattrs = []
        for name, value in xattrs:
            if name.startswith(OVERRIDE_PREFIX):
                if self.privileged:
                    continue
                found = believed(value, st) if name == OVERRIDE_STAT else None
                if found is not None:
                    mode, uid, gid, rdev = found.mode, found.uid, found.gid, found.rdev
                meant = believed_name(name)
                if meant is not None:
                    kept.append((meant, value))
            elif not name.startswith(_DROPPED):
                kept.append((name, value))
        return Shown(mode, uid, gid, rdev, st.st_mtime_ns, sorted(kept))

    def mode_on_disk(self, mode: int) -> int:
        """Return the mode that a regular file or directory gets on disk in place of `mode`."""
        return mode if self.privileged else mode_on_disk(mode)

    def set_xattrs(self, path: bytes | int, xattrs: Xattrs) -> bool:
        """Set `xattrs` on `path`, following no link; tell whether any was set."""
        done = [self._set(path, name, value) for name, value in xattrs]
        return any(done)

    def _set(self, path: bytes | int, name: bytes, value: bytes) -> bool:
        try:
            _setxattr(path, name, value)
            return True
        except OSError as error:
            if error.errno in _TOO_LARGE:
                raise AttributesTooLarge(error.errno, error.strerror) from error
            if error.errno not in _UNSUPPORTED:
                raise
        if self.privileged or not name.startswith(b"security."):
            return False
        try:
            _setxattr(path, OVERRIDE_PREFIX + name, value)
            return True
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        return False


class AttributesTooLarge(OSError):
    """A file has more in attributes than its filesystem keeps, or the disk is full.

    ext4, which has one block for those of a file, calls both ENOSPC.
    """


class Owned(Protocol):
    """The owner and attributes that a file should get."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def xattrs(self) -> Xattrs: ...


def _setxattr(path: bytes | int, name: bytes, value: bytes) -> None:
    if isinstance(path, int):
        os.setxattr(path, name, value)
    else:
        os.setxattr(path, name, value, follow_symlinks=False)


class Shown(NamedTuple):
    """The fields of a file's entry in an archive."""

    mode: int  # with its type
    uid: int
    gid: int
    rdev: int
    mtime_ns: int
    xattrs: Xattrs
