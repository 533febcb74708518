"""The trees that a stage copies and mounts from, in the process of that stage.

Decided here and only here: how a stage's process reaches them.  It receives a root as a
detached mount, and attaches it in its own namespace, where a RUN can bind it.

Threading: one thread.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from layerstore.build.copying import Copier
from layerstore.build.destination import Destination
from layerstore.build.ignore import Ignore
from layerstore.build.source_digest import SEEN, signature
from layerstore.build.sources import DirectorySource, Sources
from layerstore.build.tree import Tree
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

    def tree(self, name: str) -> Tree:
        """Return the tree of `--from=name`; the name "" means the context."""
        return Tree(self._roots[name], owners=True) if name else self.context

    def base(self, name: str) -> str:
        """Return a path of the tree for a bind mount, without the files that are ignored."""
        if name not in self._mounted:
            self._mounted[name] = self._mount(name) if name else self._seen_context()
        return self._mounted[name]

    def _mount(self, name: str) -> str:
        path = self._directory / f"from-{len(self._mounted)}"
        path.mkdir(exist_ok=True)
        mount_clone(self._roots[name], os.fsencode(path))
        return os.fspath(path)

    def _seen_context(self) -> str:
        """Return the path of the context, or of a copy without the files that are ignored."""
        if self.context.ignore.empty:
            return os.readlink(f"/proc/self/fd/{self.context.fd}")
        path = self._directory / "context"
        path.mkdir(exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy_whole(self.context, fd)
        finally:
            os.close(fd)
        return os.fspath(path)


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
