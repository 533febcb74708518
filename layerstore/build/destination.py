"""The tree that a build copies into: directories found or made beneath its root.

This module alone decides how a path of an image becomes an open directory, and which
existing files a copy replaces.  Links are followed within the root as in a chroot; a
dangling link leads to the path that it names.  Missing directories are made with mode 0755.
A file replaces anything at its path, except a directory that it is copied into; a directory
replaces a file at its path.  docker does the same when it unpacks a tar.

Threading: one thread at a time.  Source: moby `builder/dockerfile/copy.go`; path_resolution(7).
"""

from __future__ import annotations

import errno
import os
import stat

from layerstore.build.owner import ROOT, Owner
from layerstore.errors import StoreError, shown
from layerstore.layer.metadata import Metadata, Xattrs
from unionfs.errors import fs_error
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.attributes import chmod_at
from unionfs.syscalls.removal import remove_tree

_MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Given(NamedTuple):
    """The owner and attributes that a file gets."""

    uid: int
    gid: int
    xattrs: Xattrs


class Slot(NamedTuple):
    """The place of a path in the image: `name` in the directory `fd`, which the caller closes.

    `name` is b"" if the path is the directory itself.  `st` is None if the file is missing.
    """

    fd: int
    name: bytes
    st: os.stat_result | None


class Destination:
    """The tree beneath the directory `root_fd`, which the caller closes.

    `metadata` sets owners and modes, as for layers.  New files get the time `clock_ns`, and
    copied files get at most that time; None means the current time, and no limit.
    """

    def __init__(self, root_fd: int, metadata: Metadata, clock_ns: int | None = None) -> None:
        self.root_fd = root_fd
        self.metadata = metadata
        self.clock_ns = clock_ns

    def locate(self, path: str, owner: Owner = ROOT) -> Slot:
        """Return the place of `path`; links are followed, the last component too.

        Missing parent directories are made, with the owner `owner`.  Raises StoreError.
        """
        try:
            return self._locate(path, owner)
        except OSError as error:
            raise refused(path, error) from None

    def folder(self, path: str, owner: Owner = ROOT) -> tuple[int, bool]:
        """Open the directory `path`, or make it; return its fd, and whether it was made."""
        place = self.locate(path, owner)
        try:
            if not place.name:
                fd, place = place.fd, place._replace(fd=-1)
                return fd, False
            made = place.st is None
            if made:
                self.make_directory(place.fd, place.name, owner)
            return os.open(place.name, _DIRECTORY, dir_fd=place.fd), made
        except OSError as error:
            raise refused(path, error) from None
        finally:
            if place.fd >= 0:
                os.close(place.fd)

    def _locate(self, path: str, owner: Owner) -> Slot:
        todo = os.fsencode(path).split(b"/")[::-1]
        opened = [os.dup(self.root_fd)]
        links = 0
        try:
            while todo:
                name = todo.pop()
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    if len(opened) > 1:
                        os.close(opened.pop())
                    continue
                st = lstat(opened[-1], name)
                if st is not None and stat.S_ISLNK(st.st_mode):
                    links += 1
                    if links > _MAX_LINKS:
                        raise fs_error(errno.ELOOP)
                    target = os.readlink(name, dir_fd=opened[-1])
                    while target.startswith(b"/") and len(opened) > 1:
                        os.close(opened.pop())
                    todo += target.split(b"/")[::-1]
                    continue
                if not any(part not in (b"", b".") for part in todo):
                    return Slot(opened.pop(), name, st)
                if st is None:
                    self.make_directory(opened[-1], name, owner)
                opened.append(os.open(name, _DIRECTORY, dir_fd=opened[-1]))
            st = os.fstat(opened[-1])
            return Slot(opened.pop(), b"", st)
        finally:
            for fd in opened:
                os.close(fd)

    def make_directory(self, fd: int, name: bytes, owner: Owner, mode: int = 0o755) -> None:
        """Make the directory `name` in `fd` with exactly that mode and owner."""
        refuse_path(name)
        os.mkdir(name, 0o700, dir_fd=fd)
        made = os.open(name, _DIRECTORY, dir_fd=fd)
        try:
            self.give(made, stat.S_IFDIR | mode, owner)
            if self.clock_ns is not None:
                os.utime(made, ns=(self.clock_ns, self.clock_ns))
        finally:
            os.close(made)

    def directory(self, fd: int, name: bytes) -> int:
        """Return an fd of the directory `name` in `fd`; it replaces any other file there."""
        refuse_path(name)
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            st = lstat(fd, name)
            if st is None or not stat.S_ISDIR(st.st_mode):
                self.remove(fd, name)
                os.mkdir(name, 0o700, dir_fd=fd)
        return os.open(name, _DIRECTORY, dir_fd=fd)

    def create(self, fd: int, name: bytes, mode: int) -> int:
        """Create the regular file `name` in `fd`; it replaces anything there.

        `mode` is the one that `give` will set: if it is right from the start, that saves a
        system call.
        """
        refuse_path(name)
        first = self.metadata.mode_on_disk(mode) & 0o777
        try:
            return os.open(name, _CREATE, first, dir_fd=fd)
        except FileExistsError:
            self.remove(fd, name)
            return os.open(name, _CREATE, first, dir_fd=fd)

    def symlink(self, fd: int, name: bytes, target: bytes, given: Given) -> None:
        """Make the symbolic link `name` in `fd`, where nothing has that name."""
        os.symlink(target, name, dir_fd=fd)
        self.metadata.own((fd, name), given, stat.S_IFLNK | 0o777)

    def special(self, fd: int, name: bytes, mode: int, rdev: int, given: Given) -> None:
        """Make the device or FIFO `name` in `fd`, where nothing has that name.

        An unprivileged process makes a file instead of a device, and records what it is.
        """
        metadata = self.metadata
        recorded = not metadata.privileged and not stat.S_ISFIFO(mode)
        on_disk = stat.S_IFREG | 0o600 if recorded else metadata.mode_on_disk(mode)
        os.mknod(name, on_disk, 0 if recorded else rdev, dir_fd=fd)
        metadata.own((fd, name), given, mode, rdev, record=recorded)
        chmod_at(fd, name, stat.S_IMODE(on_disk))

    def unnamed(self) -> int:
        """Create a file that has no name and open it for reading and writing."""
        try:
            return os.open(".", os.O_RDWR | os.O_TMPFILE, 0o600, dir_fd=self.root_fd)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise
        # overlayfs can do that since Linux 6.1
        return os.memfd_create("scratch", os.MFD_CLOEXEC)

    def remove(self, fd: int, name: bytes) -> None:
        """Remove the file or tree `name` in `fd`; no error if it is missing."""
        refuse_path(name)
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            remove_tree(fd, name)

    def give(self, fd: int, mode: int, owner: Owner, xattrs: Xattrs | None = None) -> None:
        """Give the new file or directory its owner, attributes and mode, in that order."""
        self.metadata.own(fd, Given(*owner, xattrs or []), mode)
        has = -1
        if owner == self.metadata.ours:
            # A new file has them already, unless its parent is setgid or has a default ACL.
            st = os.fstat(fd)
            if (st.st_uid, st.st_gid) == owner:
                has = stat.S_IMODE(st.st_mode)
            else:
                self.metadata.chown(fd, *owner)
        on_disk = stat.S_IMODE(self.metadata.mode_on_disk(mode))
        if has != on_disk:
            os.fchmod(fd, on_disk)

    def set_time(self, place: int | tuple[int, bytes], mtime_ns: int) -> None:
        """Set the times of the file at `place`, an fd or a name in a directory."""
        if self.clock_ns is not None:
            mtime_ns = min(mtime_ns, self.clock_ns)
        times = (mtime_ns, mtime_ns)
        if isinstance(place, int):
            os.utime(place, ns=times)
        else:
            os.utime(place[1], ns=times, dir_fd=place[0], follow_symlinks=False)


def refuse_path(name: bytes) -> None:
    """Raise StoreError unless `name` is that of a file in a directory, not a path.

    A path could lead out of the image.
    """
    if b"/" in name or b"\0" in name or name in (b"", b".", b".."):
        raise StoreError(f"{shown(os.fsdecode(name))} is no name that a file can have")


def lstat(fd: int, name: bytes) -> os.stat_result | None:
    """Return the status of `name` in `fd` without following a link; None if it is missing."""
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def refused(path: str, error: OSError) -> StoreError:
    """Return the error for a path in the image that cannot be written."""
    return StoreError(f"{shown(path)} in the image cannot be written: {error.strerror}")
