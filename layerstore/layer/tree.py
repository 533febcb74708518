"""The directories of a layer that is being built, each opened beneath the layer's root.

Decided here and only here: how a path in an archive becomes an open directory.
Links in the path are followed within the root, as docker does, and nothing leads
out of it.  Directories for which the archive has no entry are made.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from layerstore.errors import InvalidImage, UnsafePath
from layerstore.tar.reader import show
from unionfs.errors import fs_error
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.openat2 import open_in_root

_MOST_OPEN = 256
_FLAGS = os.O_RDONLY | os.O_DIRECTORY


class Folder(NamedTuple):
    """An open directory: its fd, valid until the next call, and its path without any links."""

    fd: int
    path: bytes

    def under(self, name: bytes) -> bytes:
        """Return the path of `name` in this directory."""
        return self.path + b"/" + name if self.path else name


class LayerTree:
    """The tree beneath the directory `root`.  A context manager; one thread.

    `made` is called with the path of each directory that is made for a path beneath it.
    """

    def __init__(self, root: Path, made: Callable[[bytes], None]) -> None:
        self.fd = os.open(root, _FLAGS | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._prefix = os.readlink(b"/proc/self/fd/%d" % self.fd).rstrip(b"/") + b"/"
        self._folders: dict[bytes, Folder] = {}
        self._made = made

    def folder(self, path: bytes) -> Folder:
        """Return the directory `path`, which is made if it is missing.

        Raises UnsafePath or InvalidImage if there can be no such directory.
        """
        return self._folders.get(path) or self._open(path, make=True)

    def existing(self, path: bytes) -> Folder | None:
        """Return the directory `path`, None if there is none."""
        found = self._folders.get(path)
        if found is not None:
            return found
        try:
            return self._open(path, make=False)
        except (FileNotFoundError, InvalidImage):
            return None

    def forget(self) -> None:
        """Close what is open: a directory or a link has been removed."""
        for folder in self._folders.values():
            os.close(folder.fd)
        self._folders.clear()

    def _open(self, path: bytes, *, make: bool) -> Folder:
        missing: list[bytes] = []
        at = path
        while (found := self._try(at)) is None:
            if not make:
                raise fs_error(errno.ENOENT, path)
            at, _, name = at.rpartition(b"/")
            missing.append(name)
        while missing:
            name = missing.pop()
            try:
                os.mkdir(name, 0o700, dir_fd=found.fd)
            except FileExistsError:
                raise UnsafePath(
                    f"the archive has something beneath {show(at + b'/' + name)}, which is a link "
                    "to nowhere in the image"
                ) from None
            real = found.under(name)
            self._made(real)
            at = at + b"/" + name if at else name
            # Relative to its parent: each open from the root would resolve the whole path.
            fd = os.open(name, _FLAGS | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found.fd)
            found = self._remember(at, Folder(fd, real))
        return found

    def _try(self, path: bytes) -> Folder | None:
        """Open the directory `path` and remember it, None if it does not exist."""
        found = self._folders.get(path)
        if found is not None:
            return found
        try:
            fd = open_in_root(self.fd, path, _FLAGS)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise InvalidImage(
                f"the archive has something beneath {show(path)}, which is no directory"
            ) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UnsafePath(
                    f"the archive has something beneath {show(path)}, where links go in circles"
                ) from None
            raise
        try:
            where = os.readlink(b"/proc/self/fd/%d" % fd)
        except OSError:
            os.close(fd)
            raise
        real = where[len(self._prefix) :] if where + b"/" != self._prefix else b""
        return self._remember(path, Folder(fd, real))

    def _remember(self, path: bytes, folder: Folder) -> Folder:
        if len(self._folders) >= _MOST_OPEN:
            # Close the oldest; the caller may still use the latest.
            os.close(self._folders.pop(next(iter(self._folders))).fd)
        self._folders[path] = folder
        return folder

    def __enter__(self) -> LayerTree:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        os.close(self.fd)
