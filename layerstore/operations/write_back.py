"""What programs have written through a mount reaches the layer before a freeze.

Decided here and only here: how, where it still lies in the kernel.  What is stored
through a shared mapping does, in the page cache of the mount, until it is written
back; without FUSE passthrough the daemon does not have it before.  Only files open for
writing can have such pages: the kernel writes them back as a mapping goes.

fsync(2) waits for the daemon to have them; syncfs(2) of a FUSE mount does not.  It is for
whoever commits to do that: the daemon would wait for itself.

Source: Linux fs/fuse/file.c fuse_fsync(), fuse_vma_close(); fs/fuse/inode.c fuse_sync_fs().
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from layerstore.containers import control_client as control
from layerstore.containers.containers import Container
from layerstore.db.processes import way_in
from layerstore.errors import StoreError
from unionfs.syscalls.openat2 import open_in_root

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def write_back(container: Container, socket: Path) -> None:
    """Let the daemon behind `socket` have what programs wrote to files they have open.

    Where the mount is out of our reach, or a file went away meanwhile, nothing is done:
    the container is then as its daemon knows it.
    """
    root = _root_of(container)
    if root is None:
        return
    try:
        with suppress(StoreError):  # without a mount; what is wrong with one, the freeze tells
            for path in control.writing(socket):
                with suppress(OSError):
                    _sync(root, path)
    finally:
        os.close(root)


def _root_of(container: Container) -> int | None:
    """Return the root of the container's mount, open; None where it is not mounted, or not here."""
    if not container.running:
        return None
    point = container.mount_point or f"/proc/{way_in(container.pid or 0)}/root"
    try:
        root = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # A mount in another mount namespace is some other directory in ours.
        os.getxattr(root, "user.pyunion.stack")
    except OSError:
        os.close(root)
        return None
    return root


def _sync(root: int, path: bytes) -> None:
    # Whatever has that name by now is not opened, unless it is a file of the mount.
    place = open_in_root(root, path.lstrip(b"/"), os.O_PATH | os.O_NOFOLLOW)
    try:
        found = os.fstat(place)
        if stat.S_ISREG(found.st_mode) and found.st_dev == os.fstat(root).st_dev:
            fd = os.open(f"/proc/self/fd/{place}", _OPEN)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
    finally:
        os.close(place)
