"""A stage of a build: the kernel's overlayfs is mounted instead of our union.

Such a stage needs no daemon, and its commands do not wait for one.  The kernel writes the
same upper as we do.  It is mounted again after each step that changes something, which takes
a millisecond; the mount is volatile, so it never syncs.  A union of ours would be mounted once
and stay mounted; but no process outside of the build uses the mount of a stage, and between two
steps no process uses it at all.

A command may have sent a descriptor to a process outside of the build, through a socket.
With that the process could write to a layer after its digest was computed, or change what the
next step sees.  So the overlayfs that a command has used is unmounted after the step, and it is
an error if it does not end then, because a descriptor of it is still open somewhere.

As in docker's builds, a file that is changed by one of its hard links is another file from
then on, if the links are older than the step.

Decided here and only here: when the kernel's overlayfs is used.  That requires an upper that
the kernel accepts, and not too many layers.  The kernel does not read the whiteouts of AUFS,
which container engines with a mount program have in their layers, nor the data of a metacopy: a
stage that has none of its own has to be mounted with metacopy=off, and then gives EPERM.  In the
user namespace of an ordinary user it follows no redirect either, so no layer may have one.  There
a directory of an older layer cannot be renamed, but only be copied (EXDEV), as in docker.

Source: overlayfs.rst "Volatile mount", "Sharing and copying layers"; Linux
fs/overlayfs/super.c:ovl_sync_fs().
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from layerstore.db.staging import remove_tree
from layerstore.errors import StoreError
from layerstore.layers import Layer
from mount_tools.build.step_end import HELD, OWN_PREFIXES, PATIENCE, describe_root, is_changed
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls import xattr
from unionfs.syscalls.inotify import EndWatch
from unionfs.syscalls.mount import MNT_DETACH, MS_NODEV, mount, umount
from unionfs.syscalls.privilege import is_machine_root

if TYPE_CHECKING:
    from mount_tools.build.stage_mount import StagePlan

MOST_LOWERS = 150
"""More lowers do not fit into the single page of options that mount(2) accepts."""

_OPTIONS = b"index=off,xino=off,volatile"
_OF_ROOT = b",metacopy=off,redirect_dir=on"
_OF_A_USER = b",userxattr"  # without redirects and metacopy
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def is_possible(lowers: Sequence[Path], steps: int) -> bool:
    """Tell whether the kernel may accept the layers `lowers`, and those of so many steps."""
    if os.geteuid() != 0 or len(lowers) + steps >= MOST_LOWERS:
        return False
    return not any(map(_has_marks_of_ours, lowers))


def _has_marks_of_ours(diff: Path) -> bool:
    """Tell whether a layer may have marks that the kernel does not follow in a stage."""
    from layerstore.layer.index import INDEX, may_have
    from unionfs import Marks

    as_root = is_machine_root()
    marks = Marks(userxattr=not as_root)
    # Earlier versions mounted containers with metacopy=on.
    names = (marks.metacopy,) if as_root else (marks.redirect, marks.metacopy, marks.whiteout)
    return bool(os.listdir(diff)) and may_have(diff.parent / INDEX, names)


def has_whiteouts_of_aufs(layer: Layer) -> bool:
    """Tell whether a layer may have whiteouts that the kernel takes for files.

    Our own never have.
    """
    if not layer.is_elsewhere:
        return False
    from layerstore.layer.index import may_have
    from unionfs import AUFS_PREFIX

    return may_have(layer.index, names=(AUFS_PREFIX.decode(),))


class KernelStage:
    """The stage, mounted by the kernel; `root` is its root, an O_PATH descriptor, or -1."""

    any_names = True

    def __init__(self, plan: StagePlan) -> None:
        """Mount nothing yet."""
        self.root = -1
        self.plan = plan
        self._point = os.fsencode(plan.point)
        # The packer moves a frozen layer while it is mounted here.
        self._lowers = [os.open(path, _PLACE) for path in plan.lowers]
        self._points = -1  # the lower with mount points, open
        self.shows_points = False
        self._last = 0
        self._was: tuple[object, ...] = ()
        self._accepted = False
        self._ran = False
        self._end: EndWatch | None = None

    def mount(self, *, runs: bool) -> bool:
        """Mount the stage for the next step; tell whether the kernel accepts it.

        If the step `runs` a command, it sees the mount points which that needs; other steps
        see what is in the layers.  Raises OSError if the kernel has accepted the stage before.
        """
        try:
            if self.root >= 0 and self.shows_points != (runs and self._points >= 0):
                self._unmount()
            if self.root < 0:
                self.root = self._mount(self.plan.upper, points=runs)
                self._was = describe_root(self.plan.upper)
            if runs:
                self._show_points()
                self._ran = True
        except OSError:
            if self._accepted:
                raise
            return False
        self._accepted = True
        return True

    def freeze(self) -> int | None:
        """Make a layer of the changes since the last one; return its number, or None.

        All processes that the stage ran have ended.  Raises StoreError if another process has
        files of it open.
        """
        upper = self.plan.upper
        if not self._ran and not is_changed(upper, self._was):
            return None
        self._unmount()
        self._ran = False
        if not is_changed(upper, self._was):
            return None
        place = self.plan.frozen / str(self._last + 1)
        diff, fresh = place / "diff", place / "fresh"
        try:
            # If the disk is full the upper stays where it is, for the user to look into.
            place.mkdir(mode=0o700)
            _make_like(fresh, upper)
            os.rename(upper, diff)
        except BaseException:
            remove_tree(place)
            raise
        os.rename(fresh, upper)
        self._last += 1
        self._lowers.insert(0, os.open(diff, _PLACE))
        return self._last

    def end(self) -> None:
        """Unmount it."""
        if self.root >= 0:
            with suppress(StoreError):  # it is used no more
                self._unmount()
        for fd in self._lowers:
            os.close(fd)
        self._lowers.clear()
        remove_tree(self._work)

    def _show_points(self) -> None:
        """Mount it with the mount points that the stage lacks, in a lower of their own.

        In the upper they would become part of a layer.  The layers that are made later lie
        above that lower, and may hide what is in it; then it is made again.
        """
        from mount_tools.build.attach import Stubs, lacks_points
        from mount_tools.container.program import own_interpreter

        own_interpreter()
        if not lacks_points(self.root, self.plan.files):
            return
        self._unmount()
        if self._points >= 0:
            self._lowers.remove(self._points)
            os.close(self._points)
            self._points = -1
        diff = self.plan.points / "diff"
        remove_tree(diff.parent)
        diff.parent.mkdir(mode=0o755)
        _make_like(diff, self.plan.upper)
        self.root = self._mount(diff, points=False)
        try:
            stubs = Stubs(self.root)
            stubs.make_points(self.plan.files)
            stubs.keep()
        finally:
            self._unmount()
        self._points = os.open(diff, _PLACE)
        self._lowers.insert(0, self._points)
        self.root = self._mount(self.plan.upper, points=True)

    def _mount(self, upper: Path, *, points: bool) -> int:
        """Mount all lowers and `upper`, with or without the mount points; return the root, open."""
        remove_tree(self._work)
        self._work.mkdir(mode=0o700)
        # Short names, since mount(2) accepts one page of options.
        ends = [os.open(path, _PLACE) for path in (upper, self._work)]
        try:
            self.shows_points = points and self._points >= 0
            lowers = [fd for fd in self._lowers if fd != self._points or points]
            names = [b"/proc/self/fd/%d" % fd for fd in (*lowers, *ends)]
            options = b"lowerdir=%s,upperdir=%s,workdir=%s,%s" % (
                b":".join(names[:-2]),
                *names[-2:],
                _OPTIONS + (_OF_ROOT if is_machine_root() else _OF_A_USER),
            )
            mount(b"overlay", self._point, b"overlay", MS_NODEV, options)
        finally:
            for fd in ends:
                os.close(fd)
        root = os.open(self._point, _PLACE)
        try:
            self._end = EndWatch(root)
        except BaseException:
            os.close(root)
            umount(self._point, MNT_DETACH)
            raise
        return root

    def _unmount(self) -> None:
        """Unmount it; raises StoreError if another process goes on using it."""
        os.close(self.root)
        self.root = -1
        umount(self._point, MNT_DETACH)
        assert self._end is not None, "it is made with each mount"
        watch, self._end = self._end, None
        try:
            if not watch.ended_within(PATIENCE):
                raise StoreError(HELD)
        finally:
            watch.close()

    @property
    def _work(self) -> Path:
        return self.plan.upper.with_name("kernel-work")


def _make_like(made: Path, like: Path) -> None:
    """Make the empty directory `made` with the attributes of `like`."""
    made.mkdir(mode=0o700)
    found = like.stat()
    fd, old = os.open(made, _DIRECTORY), os.open(like, _DIRECTORY)
    try:
        os.fchown(fd, found.st_uid, found.st_gid)
        os.fchmod(fd, found.st_mode & 0o7777)
        for name, value in xattr.items_fd(old):
            if not name.startswith(OWN_PREFIXES):
                os.setxattr(fd, name, value)
        os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))
    finally:
        os.close(fd)
        os.close(old)
