"""The trees that a stage copies and mounts from, in the process of that stage.

Decided here and only here: how a stage's process reaches them.  It receives the root of a stage
or an image as a detached mount, and attaches it in its own namespace, where a RUN can bind it.
Of the context a RUN sees a copy, whose digest is compared with that in the key of the step:
the context itself may change meanwhile.

Threading: one thread.
"""

from __future__ import annotations

import os
import posixpath
import stat
from pathlib import Path

from layerstore.build.copying import Copier
from layerstore.build.destination import Destination
from layerstore.build.ignore import Ignore
from layerstore.build.source_digest import SEEN, signature
from layerstore.build.sources import DirectorySource, FileSource, Source, Sources
from layerstore.build.tree import Tree, changed
from layerstore.errors import StoreError
from layerstore.layer.metadata import Metadata
from unionfs.syscalls.mount_tree import mount_clone
from unionfs.syscalls.privilege import is_machine_root


class Reached:
    """The sources of one stage, in the process of that stage.

    `roots` has a descriptor for each name in a `--from`; `directory` is for mount points.
    """

    def __init__(self, context: Tree, roots: dict[str, int], directory: Path) -> None:
        self.context = context
        self._roots = roots
        self._directory = directory
        self._mounted: dict[str, str] = {}
        self._copied: dict[str, tuple[str, str]] = {}

    def tree(self, name: str) -> Tree:
        """Return the tree of `--from=name`; the name "" means the context."""
        return Tree(self._roots[name], owners=True) if name else self.context

    def base(self, name: str) -> str:
        """Return a path of the tree of a stage or an image, for a bind mount."""
        if name not in self._mounted:
            self._mounted[name] = self._mount(name)
        return self._mounted[name]

    def copied(self, source: str, seen: bytes) -> tuple[str, str]:
        """Copy `source` of the context; return a directory and the path of the copy in it.

        `seen` is that of its digest.  Raises StoreError if it is not what the digest is of.
        """
        if source not in self._copied:
            path = self._directory / f"context-{len(self._copied)}"
            path.mkdir(exist_ok=True)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                inside = _copy(self.context, source, seen, fd)
            finally:
                os.close(fd)
            self._copied[source] = os.fspath(path), inside
        return self._copied[source]

    def _mount(self, name: str) -> str:
        path = self._directory / f"from-{len(self._mounted)}"
        path.mkdir(exist_ok=True)
        mount_clone(self._roots[name], os.fsencode(path))
        return os.fspath(path)


def _copy(tree: Tree, path: str, seen: bytes, to: int) -> str:
    """Copy `path` of `tree` into the directory `to`; return the path of the copy in that."""
    found = tree.find(path.lstrip("/"))
    if found is None:
        raise changed(path, "it was removed")
    source: Source
    if stat.S_ISDIR(found.st.st_mode):
        source, inside = DirectorySource(found.path), "."
    else:
        inside = posixpath.basename(found.path)
        source = FileSource(found.path, inside, found.st)
    copier = Copier(Destination(to, Metadata(privileged=is_machine_root())))
    copier.copy_source(source, Sources(tree, (source,), Ignore()), seen, "/")
    return inside


def copy_whole(tree: Tree, to: int, path: str = "") -> None:
    """Copy the content of the directory `path` of `tree` into the directory `to`."""
    found = tree.find(path)
    if found is None:
        raise StoreError(f"cannot fill a new cache from {path}: it does not exist")
    sources = Sources(tree, (DirectorySource(found.path),), Ignore())
    seen = b"".join(
        signature(entry).ljust(SEEN, b"\0")
        for entry in sources.walk(found.path)
        if not stat.S_ISSOCK(entry.st.st_mode)
    )
    copier = Copier(Destination(to, Metadata(privileged=is_machine_root())))
    copier.copy_source(sources.found[0], sources, seen, "/")
