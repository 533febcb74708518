"""A stage before its first RUN: the kernel's overlayfs is mounted instead of ours.

Such a stage needs no daemon, which would take longer to start than a COPY takes.  The kernel
writes the same upper as we do.  It is mounted again after each step, which takes a
millisecond; the mount is volatile, so it never syncs.

Decided here and only here: when the kernel's overlayfs is used.  That requires the root user
of the machine, and an upper that the kernel accepts.

Source: overlayfs.rst "Volatile mount", "Sharing and copying layers"; Linux
fs/overlayfs/super.c:ovl_sync_fs().
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from layerstore.db.staging import remove_tree
from unionfs.syscalls import xattr
from unionfs.syscalls.mount import MNT_DETACH, MS_NODEV, mount, umount
from unionfs.syscalls.privilege import is_machine_root

MOST_LOWERS = 150
"""More lowers do not fit into the single page of options that mount(2) accepts."""

_OPTIONS = b"index=off,metacopy=off,redirect_dir=on,xino=off,volatile"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OWN_PREFIXES = ("trusted.overlay.", "user.overlay.")


def is_possible(lowers: Sequence[Path]) -> bool:
    """Tell whether the kernel may accept a mount over `lowers`."""
    return is_machine_root() and len(lowers) < MOST_LOWERS


class KernelStage:
    """The stage, mounted by the kernel; `root` is its root, an O_PATH descriptor, or -1."""

    def __init__(self, point: Path, lowers: Sequence[Path], upper: Path, frozen: Path) -> None:
        """Mount nothing yet; `lowers` has the topmost first, `frozen` gets the new layers."""
        self.root = -1
        self._point = os.fsencode(point)
        self._upper = upper
        self._frozen = frozen
        self._lowers = list(lowers)
        # The packer moves a frozen layer while it is mounted here.
        self._opened = [os.open(path, _PLACE) for path in lowers]
        self._last = 0
        self._was: tuple[object, ...] = ()

    def mount(self) -> bool:
        """Mount the stage if it is not mounted; tell whether the kernel has accepted it."""
        if self.root >= 0:
            return True
        if len(self._opened) > MOST_LOWERS:
            return False
        try:
            self._mount()
        except OSError:
            return False
        return True

    def freeze(self) -> int | None:
        """Make a layer of the changes since the last one; return its number, or None."""
        if not os.listdir(self._upper) and describe_root(self._upper) == self._was:
            return None
        self._unmount()
        place = self._frozen / str(self._last + 1)
        place.mkdir(mode=0o700)
        diff = place / "diff"
        os.rename(self._upper, diff)
        self._last += 1
        self._lowers.insert(0, diff)
        self._opened.insert(0, os.open(diff, _PLACE))
        self._make_upper(diff)
        return self._last

    def end(self) -> tuple[tuple[Path, ...], int]:
        """Unmount it; return all lowers, and the number of the last layer that was made."""
        if self.root >= 0:
            self._unmount()
        for fd in self._opened:
            os.close(fd)
        self._opened.clear()
        self._remove_work()
        return tuple(self._lowers), self._last

    def _make_upper(self, like: Path) -> None:
        """Make an empty upper whose root has the attributes of the root of `like`."""
        self._upper.mkdir(mode=0o700)
        found = like.stat()
        fd, old = os.open(self._upper, _DIRECTORY), os.open(like, _DIRECTORY)
        try:
            os.fchown(fd, found.st_uid, found.st_gid)
            os.fchmod(fd, found.st_mode & 0o7777)
            for name in xattr.list_fd(old):
                if not name.startswith(_OWN_PREFIXES):
                    os.setxattr(fd, name, os.getxattr(old, name))
            os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(fd)
            os.close(old)

    def _mount(self) -> None:
        self._remove_work()
        work = self._work
        work.mkdir(mode=0o700)
        self._was = describe_root(self._upper)
        # Short names, since mount(2) accepts one page of options.
        ends = [os.open(path, _PLACE) for path in (self._upper, work)]
        try:
            names = [b"/proc/self/fd/%d" % fd for fd in (*self._opened, *ends)]
            options = b"lowerdir=%s,upperdir=%s,workdir=%s,%s" % (
                b":".join(names[:-2]),
                *names[-2:],
                _OPTIONS,
            )
            mount(b"overlay", self._point, b"overlay", MS_NODEV, options)
        finally:
            for fd in ends:
                os.close(fd)
        self.root = os.open(self._point, _PLACE)

    def _unmount(self) -> None:
        os.close(self.root)
        self.root = -1
        umount(self._point, MNT_DETACH)

    @property
    def _work(self) -> Path:
        return self._upper.with_name("kernel-work")

    def _remove_work(self) -> None:
        remove_tree(self._work)


def describe_root(upper: Path) -> tuple[object, ...]:
    """Return the attributes of an upper's root that a step can change."""
    fd = os.open(upper, _DIRECTORY)
    try:
        found = os.fstat(fd)
        names = [name for name in xattr.list_fd(fd) if not name.startswith(_OWN_PREFIXES)]
        values = [(name, os.getxattr(fd, name)) for name in names]
        return found.st_mode, found.st_uid, found.st_gid, values
    finally:
        os.close(fd)
