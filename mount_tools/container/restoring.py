"""Making paths of a container again what its image has, as `pyunion restore` does.

Decided here and only here: which path of the container is meant, and that nothing is
restored that something is mounted on.  Links in the directory of a path are followed beneath the
container's root; one that is the path itself is what is restored.  The mount's daemon does the rest
(`unionfs.core.restore`), also for a container that is mounted only for this.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from layerstore.build.tree import Tree
from layerstore.containers import control_client
from layerstore.containers.container import Container, socket_path
from layerstore.db.processes import way_in
from layerstore.errors import StoreError, shown
from layerstore.store import Store
from mount_tools.container.transfer import root_of
from unionfs.syscalls.mountinfo import read_mounts


@dataclass(frozen=True)
class Restorer:
    """A container whose root is open as `root_fd` until the end of `restorer`."""

    container: Container
    root_fd: int
    socket: Path

    def restore(self, path: str, *, dry_run: bool) -> str | None:
        """Restore `path`; return it without links, None if it is as in the image already.

        With `dry_run` nothing is changed.  Raises StoreError, with a sentence that says what
        to restore instead if the path cannot be.
        """
        plain = self._resolved(path)
        self._refuse_mounts(plain)
        changed = control_client.restore(self.socket, os.fsencode(plain), dry_run=dry_run)
        return plain if changed else None

    def _resolved(self, path: str) -> str:
        if not path:
            raise StoreError("an empty path is no path in a container")
        if posixpath.basename(path.rstrip("/")) == "..":
            raise StoreError(f"{shown(path)} ends in ..: name the directory itself")
        above, name = posixpath.split(posixpath.normpath("/" + path).lstrip("/"))
        found = Tree(self.root_fd).find(posixpath.dirname("/" + path.strip("/")))
        if found is None:
            return posixpath.join("/", above, name)
        if found.st.st_dev != os.fstat(self.root_fd).st_dev:
            raise StoreError(
                f"{shown(path)} is on a mount of container {self.container.name}, which is not "
                "the image's"
            )
        return posixpath.join("/", found.path, name)

    def _refuse_mounts(self, path: str) -> None:
        """Refuse what is a mount point of a running container, or has one beneath it."""
        container = self.container
        if container.init is None:
            return
        beneath = os.fsencode(path.rstrip("/"))
        for mount in read_mounts(f"/proc/{way_in(container.init)}/mountinfo"):
            if mount.mount_point == beneath or mount.mount_point.startswith(beneath + b"/"):
                point = shown(os.fsdecode(mount.mount_point))
                raise StoreError(
                    f"something is mounted on {point} in the running container "
                    f"{container.name}: restore what is beside it, or stop the container first"
                )


@contextmanager
def restorer(store: Store, container: Container) -> Iterator[Restorer]:
    """Yield what restores paths of `container`; one that does not run is mounted meanwhile."""
    with root_of(store, container) as root_fd:
        socket = socket_path(container.directory)
        yield Restorer(container, root_fd, socket)
