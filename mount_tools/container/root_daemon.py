"""A container's root: its mount, and the daemon that serves the root of a stage of a build.

The root is mounted in the container's mount namespace and served outside of it.  So the mount
ends with the last process of the container, whatever else was killed.  A container that runs
has its root served by its keeper, see `root_serving`.
"""

from __future__ import annotations

from collections.abc import Callable

from layerstore.errors import StoreError
from mount_tools.daemon.detach import OK, Outcome, begin_daemon, outcome_of
from mount_tools.mount.fuse import mount_on_fd
from mount_tools.mount.mount_options import MountOptions
from unionfs.errors import MountError
from unionfs.light_typing import NamedTuple


class FuseRoot(NamedTuple):
    """A container's root: a union that will be served at `fuse`, a `/dev/fuse`."""

    fuse: int
    point: str
    options: MountOptions

    def mount(self) -> str:
        try:
            mount_on_fd(self.fuse, self.point, self.options)
        except MountError as error:
            raise StoreError(str(error)) from None
        return self.point


def serve_root(root: FuseRoot) -> None:
    """Start a daemon for the mounted root; return when it serves.  Raises StoreError."""

    def serve(live: Callable[[], None]) -> Outcome:
        from mount_tools.container.root_serving import serve_mounted  # it needs the union

        return serve_mounted(root.fuse, root.options, live)

    outcome = outcome_of(begin_daemon(serve, keep=(root.fuse,)).report())
    if outcome.status != OK:
        raise StoreError(outcome.message)
