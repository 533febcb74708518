"""Keeps test processes that run at the same time out of each other's way."""

from __future__ import annotations

import os
import stat
import tempfile

from mount_tools.container.system_mounts import make_private
from tests.helpers.mounts import fuse_unavailable
from unionfs.syscalls.mount import MNT_DETACH, MS_BIND, mount, umount
from unionfs.syscalls.namespaces import CLONE_NEWNS, unshare


def isolate() -> None:
    """Give this process its own mount namespace and its own inode of /dev/fuse, where it may mount.

    Tests change the mode of /dev/fuse, and look through the mount table.
    """
    if fuse_unavailable() or os.geteuid() != 0:
        return
    unshare(CLONE_NEWNS)
    make_private()
    st = os.stat("/dev/fuse")
    with tempfile.TemporaryDirectory() as scratch:
        # On a filesystem of its own, the inode keeps its name: nothing can be mounted on a
        # file that was removed.
        mount(b"tmpfs", os.fsencode(scratch), b"tmpfs", 0, b"")
        device = os.path.join(scratch, "fuse")
        os.mknod(device, stat.S_IFCHR, st.st_rdev)
        os.chmod(device, stat.S_IMODE(st.st_mode))
        mount(os.fsencode(device), b"/dev/fuse", b"", MS_BIND, b"")
        umount(os.fsencode(scratch), MNT_DETACH)
