"""Mount what `RUN --mount` asks for, in the mount namespace of that RUN.

A source is a path beneath a base directory and never leads out of it; it is opened there
again in the namespace of the RUN, since a mount of another namespace cannot be bound.
Mount points that the stage lacks are made before the RUN and removed after it, so that they
do not become part of a layer.

Source: buildkit `frontend/dockerfile/docs/reference.md` "RUN --mount"; mount(2) MS_BIND.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from layerstore.errors import StoreError
from mount_tools.container.system_mounts import PinnedPath, mount_point, restrict
from unionfs.errors import fs_error
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.mount import (
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_REC,
    mount,
)
from unionfs.syscalls.openat2 import open_in_root

FURNISHED = ("dev", "proc", "sys")
"""The directories of a root on which each RUN has a filesystem of its own."""

_MOST_LINKS = 40  # as path_resolution(7)


class Bind(NamedTuple):
    """A bind mount: `path` beneath the directory `base` is mounted on `target`."""

    base: str
    path: str
    target: str
    read_only: bool = False

    @property
    def folder(self) -> bool:
        """Whether it is a directory.  Raises StoreError if it does not exist."""
        with _opened(self) as path:
            return os.path.isdir(path)


class Scratch(NamedTuple):
    """A bind mount that is writable: what the RUN writes is lost after it."""

    base: str
    path: str
    target: str

    @property
    def folder(self) -> bool:
        """Whether it is a directory.  Raises StoreError if it does not exist."""
        return Bind(self.base, self.path, self.target).folder


class Tmpfs(NamedTuple):
    """An empty tmpfs of at most `size` bytes, 0 for the kernel's own limit."""

    target: str
    size: int = 0
    folder: bool = True


class Secret(NamedTuple):
    """A file that exists in memory only."""

    target: str
    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    folder: bool = False


Attached = Bind | Scratch | Tmpfs | Secret


def attach(root: int, mounts: Sequence[Attached], workspace: str) -> None:
    """Mount all of `mounts` in the tree `root`, which has their mount points already.

    The caller is in the mount namespace of the RUN.  Secrets and writes to a Scratch are kept in
    a tmpfs that is mounted on the directory `workspace`, outside of `root`.  Raises StoreError.
    """
    if any(isinstance(wanted, (Secret, Scratch)) for wanted in mounts):
        mount(b"tmpfs", os.fsencode(workspace), b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=700")
    for number, wanted in enumerate(mounts):
        try:
            # Mount points in /dev, /proc and /sys are made here, all others before the RUN.
            with mount_point(root, wanted.target.strip("/"), folder=wanted.folder) as place:
                _attach(wanted, place.path, os.path.join(workspace, str(number)))
            if isinstance(wanted, Bind):
                # An archive that is the context may have devices in it, and so may an image
                # that a cache was filled from.
                with PinnedPath(root, wanted.target.strip("/")) as place:
                    restrict(place, read_only=wanted.read_only, devices=False)
        except OSError as error:
            raise StoreError(f"cannot mount on {wanted.target}: {error.strerror}") from None


def _attach(wanted: Attached, target: bytes, own: str) -> None:
    match wanted:
        case Bind():
            with _opened(wanted) as source:
                mount(source, target, b"", MS_BIND | MS_REC, b"")
        case Scratch():
            _overlay(wanted, target, os.fsencode(own))
        case Tmpfs(_, size):
            limit = b",size=%d" % size if size else b""
            mount(b"tmpfs", target, b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=1777" + limit)
        case Secret():
            fd = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(wanted.data)
                os.fchown(fd, wanted.uid, wanted.gid)
                os.fchmod(fd, wanted.mode)
            mount(os.fsencode(own), target, b"", MS_BIND, b"")


def _overlay(wanted: Scratch, target: bytes, own: bytes) -> None:
    """Mount the kernel's overlayfs with the source as lower and an upper in memory."""
    for directory in (own, own + b"/upper", own + b"/work"):
        os.mkdir(directory, 0o755)
    with _opened(Bind(wanted.base, wanted.path, wanted.target)) as source:
        if not stat.S_ISDIR(os.stat(source).st_mode):
            raise StoreError(
                f"the mount on {wanted.target} cannot be writable, since its source is a file: "
                "leave out rw"
            )
        options = b"lowerdir=%s,upperdir=%s/upper,workdir=%s/work" % (source, own, own)
        mount(b"overlay", target, b"overlay", MS_NODEV, options)


@contextmanager
def _opened(wanted: Bind) -> Iterator[bytes]:
    """Open the source; yield a path that leads to exactly that file.  Raises StoreError."""
    base = os.open(wanted.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_in_root(base, os.fsencode(wanted.path), os.O_PATH)
    except FileNotFoundError:
        raise StoreError(
            f"the source {wanted.path} of the mount on {wanted.target} does not exist"
        ) from None
    finally:
        os.close(base)
    try:
        yield b"/proc/self/fd/%d" % fd
    finally:
        os.close(fd)


def lacks_points(root: int, files: Iterable[str]) -> bool:
    """Tell whether a mount point is missing of what each RUN sees beside the stage."""
    try:
        for name in (*FURNISHED, *files):
            PinnedPath(root, name).close()
    except OSError:
        return True
    return False


class Stubs:
    """Mount points that are made for one RUN and removed after it, or for all RUNs of a stage."""

    def __init__(self, root: int) -> None:
        """`root` is the stage's root, open."""
        self._root = root
        self._made: list[tuple[int, str, bool]] = []
        self._times: list[tuple[int, os.stat_result]] = []

    def make_points(self, files: Iterable[str]) -> None:
        """Make the mount points of what each RUN sees beside the stage, with the `files` of /etc.

        If one cannot be made, for example beneath a file, the mount on it fails.
        """
        for name in FURNISHED:
            with suppress(OSError):
                self._make_all(name, (), folder=True)
        for name in files:
            with suppress(OSError):
                self._make_all(name, (), folder=False)

    def make(self, path: str, *, folder: bool) -> None:
        """Make the missing components of `path`; symlinks are followed beneath the root.

        Nothing is made in the directories on which a RUN has filesystems of its own.  Raises
        OSError: EINVAL if `path` has `..`, ELOOP for too many links.
        """
        self._make_all(path, FURNISHED, folder=folder)

    def _make_all(self, path: str, skipped: Collection[str], *, folder: bool) -> None:
        if ".." in path.split("/"):
            raise OSError(errno.EINVAL, "a mount point has no ..", path)
        left = path
        for _ in range(_MOST_LINKS):
            target = self._make(left, skipped, folder=folder)
            if target is None:
                return
            left = target
        raise fs_error(errno.ELOOP, path)

    def _make(self, path: str, skipped: Collection[str], *, folder: bool) -> str | None:
        """Make what is missing; at a link that leads nowhere return the path to make instead."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if parts and parts[0] in skipped:
            return None
        for depth in range(1, len(parts) + 1):
            try:
                with PinnedPath(self._root, "/".join(parts[:depth])):
                    continue
            except FileNotFoundError:
                above = "/".join(parts[: depth - 1])
                link = self._link(above, parts[depth - 1])
                if link is not None:
                    return "/".join([link, *parts[depth:]])
                self._add(above, parts[depth - 1], folder=folder or depth < len(parts))
        return None

    def _link(self, above: str, name: str) -> str | None:
        """Return where the link `name` leads, as a path from the root without `..`."""
        with PinnedPath(self._root, above) as place:
            try:
                target = os.readlink(name, dir_fd=place.fd)
            except OSError:
                return None
            real = os.path.relpath(os.readlink(place.path), self._real_root())
        return os.path.normpath(os.path.join("/", os.fsdecode(real), target))

    def _real_root(self) -> bytes:
        return os.readlink(b"/proc/self/fd/%d" % self._root)

    def _add(self, above: str, name: str, *, folder: bool) -> None:
        fd = open_in_root(self._root, os.fsencode(above), os.O_RDONLY | os.O_DIRECTORY)
        try:
            was = os.fstat(fd)
            if folder:
                os.mkdir(name, 0o755, dir_fd=fd)
            else:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o644, dir_fd=fd))
        except OSError:
            os.close(fd)
            raise
        self._made.append((fd, name, folder))
        self._times.append((fd, was))

    def remove(self) -> None:
        """Remove the mount points that are still empty; restore the times of their parents."""
        for fd, name, folder in reversed(self._made):
            # If the RUN wrote to it or removed it, that is a change of the layer: leave it.
            with suppress(OSError):
                if folder:
                    os.rmdir(name, dir_fd=fd)
                elif not os.stat(name, dir_fd=fd, follow_symlinks=False).st_size:
                    os.unlink(name, dir_fd=fd)
        self.keep()

    def keep(self) -> None:
        """Leave the mount points; restore the times of their parents."""
        for fd, was in reversed(self._times):
            with suppress(OSError):
                os.utime(fd, ns=(was.st_atime_ns, was.st_mtime_ns))
            os.close(fd)
        self._made.clear()
        self._times.clear()
