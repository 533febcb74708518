"""The workdir, where everything is made before it is renamed into the upper.

`<workdir>/work` is the staging directory.  It is emptied when a union opens and when
it closes, so what a crash leaves in it is removed.  Only `unionfs.core.volatile` decides
about `<workdir>/work/incompat`, and `<workdir>/index` belongs to
`unionfs.core.link_index`.  Layout and names are those of overlayfs.

Source: overlayfs.rst "Upper and lower", "Volatile mount"; super.c:ovl_workdir_create().
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from contextlib import suppress

from unionfs.core.layer import Fd
from unionfs.syscalls.disinherit import disinherit
from unionfs.syscalls.removal import open_own_dir, remove_tree

INCOMPAT = b"incompat"
"""The directory in the staging directory whose entries name incompatible features."""

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class WorkDir:
    """An open `<workdir>/work`."""

    def __init__(self, base_fd: Fd) -> None:
        """Open the staging directory in the workdir `base_fd`; make it, or empty it."""
        self.base_fd = base_fd
        self.fd = open_private_dir(base_fd, b"work")
        self._names = itertools.count(1)
        self._shared_whiteout: bytes | None = None
        self.sweep()

    def new_name(self) -> bytes:
        """Return a name not in use in the staging directory."""
        return b"#%x" % next(self._names)

    def make_dir(self, name: bytes) -> Fd:
        """Make the staged directory `name`, mode 0700, and return an fd of it.

        It is not made a second time if it was made, and could not be opened, before.
        """
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.fd)
        return Fd(os.open(name, _OPEN_DIR, dir_fd=self.fd))

    def shared_whiteout(self) -> bytes:
        """Return the name of a staged whiteout, of which others are made as hard links.

        A link costs less than an inode.  Source: super.c:ovl_whiteout().
        """
        name = self._shared_whiteout
        if name is None:
            name = self.new_name()
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=self.fd)
            self._shared_whiteout = name
        return name

    def drop_shared_whiteout(self) -> None:
        """Stop using the shared whiteout, which has as many links as the filesystem allows."""
        name, self._shared_whiteout = self._shared_whiteout, None
        if name is not None:
            os.unlink(name, dir_fd=self.fd)

    def discard(self, name: bytes) -> None:
        """Remove the staged `name`, a whole tree if it is a directory; no error if absent.

        The names that NFS gives to open files without one stay until a sweep after their close.
        """
        try:
            remove_tree(self.fd, name)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise

    def sweep(self) -> None:
        """Empty the staging directory, except `INCOMPAT` if that is not empty.

        No error if another process removes the directory or what is in it meanwhile.
        """
        self._shared_whiteout = None
        for name in os.listdir(b"/proc/self/fd/%d" % self.fd):
            if name != INCOMPAT or not self._has_incompat():
                self.discard(name)

    def _has_incompat(self) -> bool:
        try:
            os.rmdir(INCOMPAT, dir_fd=self.fd)
        except OSError as error:
            return error.errno == errno.ENOTEMPTY
        return False


def open_private_dir(base_fd: int, name: bytes, *, create: bool = True) -> Fd:
    """Open the directory `name` beneath `base_fd`; with `create` it is made if absent.

    Then it keeps nothing that it may have inherited, see `disinherit`.
    """
    if create:
        with suppress(FileExistsError):
            os.mkdir(name, 0, dir_fd=base_fd)
    # overlayfs makes it with mode 0, which denies access to an unprivileged owner.
    fd = Fd(open_own_dir(name, base_fd))
    if create:
        disinherit(fd)
    return fd
