"""The union that a container's processes see: which layers, and mounted with which options.

It is mounted with nothing but what is decided here, for `run`, `exec` and `build`;
`mount` mounts it for the user, with options of theirs.
"""

from __future__ import annotations

import os

from mount_tools.mount.mount_options import MountOptions
from unionfs import UnionConfig
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the process of a stage needs no store
    from layerstore.containers.container import Container
    from layerstore.store import Store


class Point(NamedTuple):
    """A path in the container that something is mounted on: a directory, or a file."""

    path: str
    folder: bool


class RootOrder(NamedTuple):
    """What is to be served: a container's union.

    `directory` is the container's.  The union gets the mount `points` that its layers lack.
    """

    directory: str
    lowers: tuple[str, ...]
    upper: str
    work: str
    fsname: str
    control: str
    log: str
    allow_other: bool
    transport: str = "auto"
    flags: int = 0
    volatile: bool = False
    points: tuple[Point, ...] = ()

    def options(self) -> MountOptions:
        """Return the options of the mount, without the layer of the mount points."""
        return MountOptions(
            union=UnionConfig(
                lowers=tuple(map(os.fsencode, self.lowers)),
                upper=os.fsencode(self.upper),
                work=os.fsencode(self.work),
                volatile=self.volatile,
            ),
            flags=self.flags,
            fsname=self.fsname,
            allow_other=self.allow_other,
            transport=self.transport,
            control=self.control,
            log=self.log,
        )


def root_order(
    store: Store, container: Container, *, transport: str = "auto", flags: int = 0
) -> RootOrder:
    """Return what serves the root of `container`; `flags` are MS_* of mount(2)."""
    from layerstore.containers.container import socket_path

    containers = store.containers
    directory = container.directory
    return RootOrder(
        directory=os.fspath(directory),
        lowers=tuple(map(os.fspath, containers.lowers_to_mount(container))),
        upper=os.fspath(container.upper),
        work=os.fspath(container.work),
        fsname=f"pyunion:{container.name}",
        control=os.fspath(socket_path(directory)),
        log=os.fspath(directory / "mount.log"),
        allow_other=os.geteuid() == 0,
        transport=transport,
        flags=flags,
    )


def container_options(store: Store, container: Container, *, flags: int = 0) -> MountOptions:
    """Return the options that mount `container`."""
    return root_order(store, container, flags=flags).options()
