"""Before a freeze, write back what programs stored through mappings of the mount's files.

Decided here and only here: how that is done.  What a program stores through a shared
mapping is in the page cache of the mount until it is written back; without FUSE passthrough
the daemon does not have it before that.  Only files open for writing can have such pages,
since the kernel writes them back when a mapping ends.

fsync(2) waits until the daemon has the pages; syncfs(2) of a FUSE mount does not.  The
daemon cannot do this, because it would wait for itself.  A process of its own does it: if the
daemon is stopped meanwhile, not even SIGKILL ends a wait for it, and a commit that is interrupted
then leaves that process behind.

Source: Linux fs/fuse/file.c fuse_fsync(), fuse_vma_close(); fs/fuse/inode.c fuse_sync_fs().
"""

from __future__ import annotations

import os
import select
import signal
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from layerstore.containers import control_client as control
from layerstore.containers.container import Container
from layerstore.db.processes import way_in
from layerstore.errors import Busy, StoreError
from unionfs.syscalls.namespaces import die_with_parent
from unionfs.syscalls.openat2 import open_in_root

_MOMENT = 1000  # ms
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def write_back(container: Container, socket: Path) -> None:
    """Write back the files that are open for writing in the mount behind `socket`.

    Nothing is done for a mount that we cannot reach, or for a file that was removed
    meanwhile: the commit then has the data that the daemon has.  Raises Busy if the mount does
    not answer.
    """
    try:
        paths = control.writing(socket)
    except Busy:
        raise
    except StoreError:
        return  # no mount, or one whose error the freeze reports
    if paths:
        _in_a_child(lambda: _sync(container, paths))


def _in_a_child(work: Callable[[], None]) -> None:
    """Do `work` in a child, and wait for it; an exception, as of Ctrl-C, kills it instead."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            die_with_parent(signal.SIGKILL)
            # What it holds open if it is left behind: a lock, or a pipe that somebody reads.
            os.closerange(0, os.sysconf("SC_OPEN_MAX"))
            work()
        os._exit(0)
    poll = select.poll()
    fd = os.pidfd_open(child)
    poll.register(fd, select.POLLIN)
    try:
        poll.poll()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        poll.poll(_MOMENT)  # it ends at once, unless the daemon has its request already
        raise
    finally:
        os.close(fd)
        with suppress(ChildProcessError):  # somebody ignores SIGCHLD
            os.waitpid(child, os.WNOHANG)


def _sync(container: Container, paths: Iterable[bytes]) -> None:
    root = _root_of(container)
    if root is None:
        return
    try:
        for path in paths:
            with suppress(OSError):
                sync_file(root, path)
    finally:
        os.close(root)


def _root_of(container: Container) -> int | None:
    """Open the root of the container's mount, for the caller to close; None if out of reach."""
    if not container.running:
        return None
    try:
        point = container.mount_point or f"/proc/{way_in(container.pid or 0)}/root"
        root = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # The mount point of another mount namespace is an ordinary directory in ours.
        os.getxattr(root, "user.pyunion.stack")
    except OSError:
        os.close(root)
        return None
    return root


def sync_file(root: int, path: bytes) -> None:
    """Write back `path` in the mount whose root is open as `root`; only a file of that mount.

    Raises OSError if the path is gone or the data cannot be written.
    """
    # Another file may have the name by now: open it only if it is a file of the mount.
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
