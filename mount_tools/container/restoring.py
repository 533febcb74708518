"""Making paths of a container again what its image has, as `pyunion restore` does.

Decided here and only here: which path of the container is meant, and that nothing is
restored that something is mounted on.  Links in the directory of a path are followed beneath the
container's root; one that is the path itself is what is restored.  The mount's daemon does the rest
(`unionfs.core.restore`), also for a container that is mounted only for this.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from layerstore.build.tree import Tree
from layerstore.containers import control_client
from layerstore.containers.container import Container, socket_path
from layerstore.containers.control_protocol import Refused
from layerstore.diff.differences import differences
from layerstore.errors import StoreError, shown
from layerstore.store import Store
from mount_tools.container.entrance import first_process, way_into
from mount_tools.container.transfer import root_of
from unionfs.syscalls.mountinfo import read_mounts


@dataclass(frozen=True)
class Restorer:
    """A container whose root is open as `root_fd` until the end of `restorer`."""

    store: Store
    container: Container
    root_fd: int
    socket: Path

    def agreed(self, paths: Sequence[str]) -> tuple[bytes, ...]:
        """Return what a restore of all `paths` restores, without those that are refused.

        The rest may be restored together: see `along` of `restore`.  Nothing is changed.
        """
        agreed: list[bytes] = []
        for path in paths:
            with suppress(StoreError):  # `restore` reports it
                agreed += self._parts(path)
        while True:
            refused = {part for part in agreed if not self._may(part, agreed)}
            if not refused:
                return tuple(agreed)
            agreed = [part for part in agreed if part not in refused]

    def restore(self, path: str, *, dry_run: bool, along: Sequence[bytes] = ()) -> Iterator[str]:
        """Restore `path`; yield it without links, or nothing if it is as in the image already.

        The caller restores what `agreed` returned, `along`, too.

        If it is a directory with mounts in it, what is beside them is restored, and yielded one
        by one; the directories above the mounts keep their own attributes.  With `dry_run`
        nothing is changed.  Raises StoreError, with a sentence that says what to restore
        instead if the path cannot be.
        """
        parts = self._parts(path)
        along = [*along, *parts]
        if len(parts) > 1 and not dry_run:
            for part in parts:
                self._ask(part, along, dry_run=True)  # so that all are restored, or none
        for part in parts:
            if self._ask(part, along, dry_run=dry_run):
                yield os.fsdecode(part)

    def _parts(self, path: str) -> list[bytes]:
        plain = os.fsencode(self._resolved(path))
        mounts = self._mounts_in(plain)
        return self._beside(plain, mounts) if mounts else [plain]

    def _may(self, part: bytes, along: Sequence[bytes]) -> bool:
        try:
            self._ask(part, along, dry_run=True)
        except StoreError:
            return False
        return True

    def _ask(self, part: bytes, along: Sequence[bytes], *, dry_run: bool) -> bool:
        """Ask for `part`, with `along`, which may be long, only if it is refused on its own."""
        try:
            return control_client.restore(self.socket, part, dry_run=dry_run)
        except Refused as error:
            others = [other for other in along if other != part]
            if error.errno != errno.EBUSY or not others:
                raise
        return control_client.restore(self.socket, part, dry_run=dry_run, along=others)

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

    def _mounts_in(self, path: bytes) -> list[bytes]:
        """Return the mount points in the directory `path` of a running container.

        Raises StoreError if it is one itself.
        """
        container = self.container
        if container.init is None or path == b"/":  # the daemon refuses the root
            return []
        mounts = read_mounts(f"{way_into(first_process(container))}/mountinfo")
        points = [mount.mount_point for mount in mounts]
        if path in points:
            raise StoreError(
                f"something is mounted on {shown(os.fsdecode(path))} in the running container "
                f"{container.name}: stop the container first"
            )
        return [point for point in points if point.startswith(path + b"/")]

    def _beside(self, path: bytes, mounts: Sequence[bytes]) -> list[bytes]:
        """Return what the upper changes in the directory `path`, beside `mounts`."""
        lowers = self.store.containers.lowers(self.container)
        found: list[bytes] = []
        merged = [self.container.upper, *lowers]
        for _, changed in differences(lowers, merged, content=False, live=True):
            if not changed.startswith(path + b"/"):
                continue
            if found and changed.startswith(found[-1] + b"/"):
                continue
            if not any(point == changed or point.startswith(changed + b"/") for point in mounts):
                found.append(changed)
        return found


@contextmanager
def restorer(store: Store, container: Container) -> Iterator[Restorer]:
    """Yield what restores paths of `container`; one that does not run is mounted meanwhile."""
    with root_of(store, container) as root_fd:
        container = store.containers.get(container.id)  # it may have been started meanwhile
        socket = socket_path(container.directory)
        yield Restorer(store, container, root_fd, socket)
