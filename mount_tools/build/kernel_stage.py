"""A stage without RUN: the kernel's overlayfs is mounted instead of ours.

Such a stage needs no daemon, which would take longer to start than a COPY takes.  The kernel
writes the same upper as we do.  It is mounted again after each step, which takes a
millisecond; the mount is volatile, so it never syncs.

Decided here and only here: when the kernel's overlayfs is used.  That requires the root user
of the machine and an upper that the kernel accepts; if the mount fails, ours is used.

Source: overlayfs.rst "Volatile mount", "Sharing and copying layers"; Linux
fs/overlayfs/super.c:ovl_sync_fs().
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mount_tools.build.stage_mount import StageMount, Surface, describe_root
from mount_tools.container.handshake import Channel, Mounted, channel, end_with
from mount_tools.container.process import in_child
from mount_tools.container.started import end_started
from mount_tools.container.system_mounts import make_private
from mount_tools.daemon.after_fork import close_all_but
from unionfs.syscalls import xattr
from unionfs.syscalls.mount import MNT_DETACH, MS_NODEV, mount, umount
from unionfs.syscalls.namespaces import (
    CLONE_NEWNS,
    chroot_to,
    leave_chroot,
    mount_namespace,
    unshare,
)
from unionfs.syscalls.privilege import is_machine_root

MOST_LOWERS = 150
"""More lowers do not fit into the single page of options that mount(2) accepts."""

_OPTIONS = b"index=off,metacopy=off,redirect_dir=on,xino=off,volatile"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def is_possible(mount_of: StageMount) -> bool:
    """Tell whether the kernel may accept the mount."""
    return is_machine_root() and len(mount_of.root.options.union.lowers) <= MOST_LOWERS


def start_kernel_stage(
    mount_of: StageMount, work: Callable[[Surface], NoReturn], keep: Sequence[int]
) -> int:
    """Fork the process of a stage, as `start_stage` does, on the kernel's overlayfs.

    Raises CannotStart if the kernel refuses the mount; the process has then ended.
    """
    builder = os.pidfd_open(os.getpid())
    ours, theirs = channel()
    child = os.fork()
    if child == 0:
        ours.close()
        in_child(lambda: _be_stage(mount_of, builder, theirs, work, keep), theirs)
    theirs.close()
    os.close(builder)
    try:
        ours.watch(child)
        ours.expect(Mounted)
    except BaseException:
        end_started(child)
        raise
    finally:
        ours.close()
    return child


def _be_stage(
    mount_of: StageMount,
    builder: int,
    to: Channel,
    work: Callable[[Surface], NoReturn],
    keep: Sequence[int],
) -> NoReturn:
    end_with(builder)
    close_all_but(to.fileno(), *keep)
    unshare(CLONE_NEWNS)
    chroot = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    namespace = mount_namespace()
    leave_chroot(namespace)
    make_private()
    chroot_to(chroot)
    os.close(chroot)
    os.close(namespace)
    stage = KernelStage(mount_of)
    to.send(Mounted())
    to.close()
    work(stage)


class KernelStage:
    """The stage, mounted by the kernel; `root` is its root, an O_PATH descriptor."""

    def __init__(self, mount_of: StageMount) -> None:
        """Mount it.  Raises OSError."""
        self.root = -1
        self._point = os.fsencode(mount_of.root.point)
        self._upper = mount_of.upper
        self._frozen = mount_of.frozen
        self._lowers = [Path(os.fsdecode(path)) for path in mount_of.root.options.union.lowers]
        self._last = 0
        self._mount()

    def freeze(self) -> int | None:
        """Make a layer of the changes since the last one; return its number, or None."""
        if not os.listdir(self._upper) and describe_root(self._upper) == self._was:
            return None
        os.close(self.root)
        umount(self._point, MNT_DETACH)
        self._last += 1
        place = self._frozen / str(self._last)
        place.mkdir(mode=0o700)
        diff = place / "diff"
        os.rename(self._upper, diff)
        self._lowers.insert(0, diff)
        self._make_upper(diff)
        self._mount()
        return self._last

    def _make_upper(self, like: Path) -> None:
        """Make an empty upper whose root has the attributes of the root of `like`."""
        self._upper.mkdir(mode=0o700)
        found = like.stat()
        fd, old = os.open(self._upper, _DIRECTORY), os.open(like, _DIRECTORY)
        try:
            os.fchown(fd, found.st_uid, found.st_gid)
            os.fchmod(fd, found.st_mode & 0o7777)
            for name in xattr.list_fd(old):
                if not name.startswith(("trusted.overlay.", "user.overlay.")):
                    os.setxattr(fd, name, os.getxattr(old, name))
            os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(fd)
            os.close(old)

    def _mount(self) -> None:
        work = self._upper.with_name("kernel-work")
        with suppress(FileNotFoundError):
            shutil.rmtree(work)
        work.mkdir(mode=0o700)
        self._was = describe_root(self._upper)
        # Short names, since mount(2) accepts one page of options.
        paths = [*self._lowers, self._upper, work]
        fds = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in paths]
        try:
            names = [b"/proc/self/fd/%d" % fd for fd in fds]
            options = b"lowerdir=%s,upperdir=%s,workdir=%s,%s" % (
                b":".join(names[:-2]),
                *names[-2:],
                _OPTIONS,
            )
            mount(b"overlay", self._point, b"overlay", MS_NODEV, options)
        finally:
            for fd in fds:
                os.close(fd)
        self.root = os.open(self._point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
