"""The merged files of a stack of layers: whiteouts, redirects and metacopies resolved.

Decided here and only here: how the store reads a union of layers.  It uses the
union's own core and needs no mount.

Threading: one thread.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Sequence
from pathlib import Path

from layerstore.errors import LayerUnreadable
from unionfs import UnionConfig, UnionFs, open_union
from unionfs.errors import ConfigError, fs_error
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls import xattr
from unionfs.types import ROOT_NODEID, Attr, NodeId

if TYPE_CHECKING:
    from typing import BinaryIO

_OPEN_DIRS = 128  # so that two unions and a walk get by with 1,024 descriptors


class UnionFiles:
    """The union of `layers`, topmost first, as a tree of files.  A context manager.

    `live` says that a mount may be changing the topmost meanwhile.
    """

    def __init__(self, layers: Sequence[Path], *, live: bool = False) -> None:
        lowers = tuple(os.fsencode(path) for path in layers)
        _allow_open_files(len(lowers))
        try:
            self.fs = open_union(
                UnionConfig(lowers=lowers, timeout=0 if live else None, open_dirs=_OPEN_DIRS)
            )
        except ConfigError as error:
            raise LayerUnreadable(f"the layers cannot be read as one tree: {error}") from None
        self._dirs: dict[bytes, NodeId] = {b"": ROOT_NODEID}

    def find(self, path: bytes) -> Attr | None:
        """Return the attributes of `path`, relative to the root; None if absent."""
        if not path:
            return self.fs.getattr(ROOT_NODEID)
        folder, _, name = path.rpartition(b"/")
        nodeid = self._directory(folder)
        return None if nodeid is None else self._look_up(nodeid, name)

    def _directory(self, path: bytes) -> NodeId | None:
        """Return the nodeid of the directory `path`, which is kept from then on."""
        missing: list[bytes] = []
        at = path
        while at not in self._dirs:
            at, _, name = at.rpartition(b"/")
            missing.append(name)
        nodeid = self._dirs[at]
        while missing:
            name = missing.pop()
            found = self._look_up(nodeid, name)
            if found is None:
                return None
            at = at + b"/" + name if at else name
            nodeid = self._dirs[at] = found.nodeid
        return nodeid

    def _look_up(self, nodeid: NodeId, name: bytes) -> Attr | None:
        try:
            return self.fs.lookup(nodeid, name)
        except (NotADirectoryError, FileNotFoundError):
            return None
        except OSError as error:
            if error.errno == errno.ESTALE:  # `nodeid` is no directory
                return None
            raise

    def open(self, path: bytes) -> BinaryIO:
        """Open the regular file `path` for reading."""
        found = self.find(path)
        if found is None:
            raise fs_error(errno.ENOENT, path)
        try:
            return open(open_node(self.fs, found.nodeid), "rb", buffering=0)
        finally:
            self.release(found)

    def xattrs(self, nodeid: NodeId) -> list[tuple[bytes, bytes]]:
        """Return the attributes of `nodeid` that a user of the union sees."""
        found = []
        for name in self.fs.listxattr(nodeid):
            try:
                found.append((name, self.fs.getxattr(nodeid, name)))
            except OSError as error:
                # Those of a container that runs may go meanwhile.
                if not xattr.is_none(error.errno or 0, name):
                    raise
        return found

    def names(self, nodeid: NodeId) -> list[bytes]:
        """Return the names in the directory `nodeid`, sorted."""
        dots_first = self.fs.listdir(nodeid, 0)
        return sorted([entry.name for entry in dots_first][2:])

    def release(self, found: Attr) -> None:
        """Release what a lookup found."""
        self.fs.forget(found.nodeid, 1)

    def close(self) -> None:
        """Close the layers."""
        self.fs.close()

    def __enter__(self) -> UnionFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _allow_open_files(layers: int) -> None:
    """Raise the soft limit of open files, if two unions of so many layers exceed it.

    A comparison opens both, and each keeps a descriptor per layer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * (layers + 2 * _OPEN_DIRS)
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def open_node(fs: UnionFs, nodeid: NodeId) -> int:
    """Return an fd of the regular file `nodeid`, open for reading; the caller closes it."""
    fh = fs.open(nodeid, os.O_RDONLY)
    try:
        return os.dup(fs.fileno(fh))
    finally:
        fs.release(fh)
