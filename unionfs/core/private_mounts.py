"""Open layers through private copies of the mounts that they are on.

Decided here and only here: with which mount flags a layer is used.  A lower layer is
read-only and keeps its atimes, even if the kernel reads it by itself (passthrough,
mmap); in the upper atimes change according to the mount options.  Only flags of a mount
do both: the kernel opens a backing file again with the flags of each opener.

A copy of a mount does not have the mounts in it, so a layer in which something is mounted
is used without a copy.  So is every layer if the kernel refuses the copy (to an ordinary
user, or of a locked mount).  O_NOATIME then keeps most atimes.

Source: fs/overlayfs/super.c:ovl_get_layers(), clone_private_mount(); open_tree(2);
mount_setattr(2).
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left

from unionfs.core.config import Atime
from unionfs.core.layer import Fd, open_dir
from unionfs.errors import fs_error
from unionfs.light_logging import Logger
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.mount_tree import (
    MOUNT_ATTR_ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
    clone_mount,
    set_mount_attributes,
)
from unionfs.syscalls.mountinfo import Mount, parse_mount, read_points
from unionfs.syscalls.statx import mount_id

log = Logger(__name__)

_ATIMES = {
    Atime.NOATIME: MOUNT_ATTR_NOATIME,
    Atime.RELATIME: MOUNT_ATTR_RELATIME,
    Atime.STRICTATIME: MOUNT_ATTR_STRICTATIME,
}


class _MountTable:
    """The mount table as it was at the first question."""

    def __init__(self) -> None:
        self._mounts: dict[int, tuple[bytes, bytes]] = {}
        self._points: list[bytes] = []

    def mount(self, number: int) -> Mount | None:
        """Return the mount with the id `number`.  Raises the OSError of reading the table."""
        self._read()
        found = self._mounts.get(number)
        return None if found is None else parse_mount(found[1])

    def has_inside(self, real: bytes) -> bool:
        """Tell whether a mount point is beneath the real path `real`; raises as `mount`."""
        self._read()
        prefix = real.rstrip(b"/") + b"/"
        at = bisect_left(self._points, prefix)
        return at < len(self._points) and self._points[at].startswith(prefix)

    def _read(self) -> None:
        if not self._mounts:
            self._mounts = read_points()
            self._points = sorted(point for point, _ in self._mounts.values())


class _Copy(NamedTuple):
    """A copy, open as `tree`, of the mount on `mount_point`.

    `original` keeps that busy, so that umount(8) says so for as long as the union is open.
    """

    mount_point: bytes
    tree: Fd
    original: Fd


class PrivateMounts:
    """One copy of each mount, for directories that are used with the same flags.

    `atime` None keeps the flags of the mounts.  The fds of the copies close with this object.
    """

    def __init__(self, table: _MountTable, *, read_only: bool, atime: Atime | None) -> None:
        self._table = table
        self._set = MOUNT_ATTR_RDONLY if read_only else 0
        self._atime = atime
        self._copies: dict[int, _Copy | None] = {}
        self._refused = False

    def open(self, path: bytes, real: bytes, fd: int, number: int | None = None) -> Fd | None:
        """Return an fd of the directory `fd`, at `path`, in a copy of its mount.

        `real` is its `real_path`.  `number` is the id of the mount, None for the one that `fd`
        was opened in.  Returns None if a copy is not possible.
        """
        if self._refused:
            return None
        try:
            if self._table.has_inside(real):
                log.info("%r is used as it is, because it has mounts in it", path)
                return None
            copy = self._copy(mount_id(fd) if number is None else number)
            beneath = None if copy is None else _beneath(real, copy.mount_point)
            if copy is None or beneath is None:
                return None
            found = open_dir(beneath, copy.tree)
            return found if os.path.sameopenfile(found, fd) else None
        except OSError as error:
            log.debug("%r is used without a copy of its mount: %s", path, error)
            return None

    def close(self) -> None:
        """Drop the copies."""
        self._copies.clear()

    def _copy(self, number: int) -> _Copy | None:
        """Return the copy of the mount with the id `number`."""
        if number not in self._copies:
            self._copies[number] = None
            mount = self._table.mount(number)
            if mount is not None:
                self._copies[number] = self._make(mount)
        return self._copies[number]

    def _make(self, mount: Mount) -> _Copy | None:
        root = Fd(os.open(mount.mount_point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        if mount_id(root) != mount.mount_id:
            return None  # another mount covers it
        try:
            tree = Fd(clone_mount(root))
        except OSError as error:
            log.debug("layers are used without copies of their mounts: %s", error)
            self._refused = True
            return None
        try:
            if self._atime is None:
                set_mount_attributes(tree, self._set, 0)
            else:
                set_mount_attributes(tree, self._set | _ATIMES[self._atime], MOUNT_ATTR_ATIME)
        except OSError as error:
            # The user namespace from which this mount namespace was copied locks them.
            log.debug("the atime flags of %r are kept: %s", mount.mount_point, error)
            set_mount_attributes(tree, self._set, 0)
        return _Copy(mount.mount_point, tree, root)


def _beneath(real: bytes, mount_point: bytes) -> bytes | None:
    """Return `real` relative to `mount_point`, None if it is not beneath that."""
    if real == mount_point:
        return b"."
    prefix = mount_point.rstrip(b"/") + b"/"
    return real.removeprefix(prefix) if real.startswith(prefix) else None


def real_path(path: bytes, fd: int) -> bytes:
    """Return the path, without links, of the directory `fd` that was opened at `path`."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % fd)  # one call, not one for each component
    except OSError:
        return os.path.realpath(path)


class LayerMounts:
    """The copies of mounts that one union uses.

    `upper_atime` says that the flags of a copy make the atimes in the upper follow the
    mount options.
    """

    def __init__(self, atime: Atime | None) -> None:
        table = _MountTable()
        self._lower = PrivateMounts(table, read_only=True, atime=Atime.NOATIME)
        self._upper: PrivateMounts | None = PrivateMounts(table, read_only=False, atime=atime)
        self._upper_mount = 0
        self.upper_atime = False

    def lower(self, path: bytes, real: bytes, fd: Fd) -> Fd:
        """Return the fd to use for the lower layer at `path`, open as `fd`.

        `real` is its `real_path`.
        """
        return self._lower.open(path, real, fd) or fd

    def upper(
        self, upper: tuple[bytes, Fd], work: tuple[bytes, Fd]
    ) -> tuple[tuple[bytes, Fd], tuple[bytes, Fd]]:
        """Return paths and fds to use for the upper and the workdir.

        They are in one copy or in none, since a rename cannot cross mounts.
        """
        copies = self._upper
        self._upper = None
        if copies is not None and mount_id(upper[1]) == mount_id(work[1]):
            one, other = (copies.open(path, real_path(path, fd), fd) for path, fd in (upper, work))
            if one is not None and other is not None:
                self._upper, self.upper_atime = copies, True
                self._upper_mount = mount_id(upper[1])
                return (upper[0], one), (work[0], other)
        return upper, work

    def fresh_upper(self, path: bytes, fd: Fd) -> Fd:
        """Return an fd of the new directory at `path`, open as `fd`, to make it the upper.

        Raises EXDEV if it is not on the same mount as the present upper.
        """
        if self._upper is None:
            return fd
        copy = self._upper.open(path, real_path(path, fd), fd)
        if copy is None:
            raise fs_error(errno.EXDEV)
        return copy

    def frozen_upper(self, path: bytes, fd: Fd) -> Fd | None:
        """Return an fd for using the former upper, now at `path` and open as `fd`, as a lower.

        None means that `fd` is to be used.
        """
        if self._upper is None:
            return None
        # Not by `real_path`: in a copy of a mount the path of `fd` begins at the root of that.
        return self._lower.open(path, os.path.realpath(path), fd, self._upper_mount)

    def close(self) -> None:
        """Drop the copies."""
        self._lower.close()
        if self._upper is not None:
            self._upper.close()
