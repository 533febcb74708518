"""The volumes of a container that does not run, in its mount, for a copy.

Decided here and only here: how `cp` reaches them.  They are mounted in a mount namespace of
our own, so that no other process sees them, each beneath the open root of the container, as
when it runs.  An ordinary user cannot come back from such a namespace; there a path on a
volume is refused.

Threading: one thread, whose mount namespace it is meanwhile.

Source: moby `daemon/archive.go`, which mounts the volumes for a copy.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from layerstore.containers.container import Container
from layerstore.errors import StoreError, shown
from layerstore.oci.run_config import RunConfig
from layerstore.store import Store
from mount_tools.container.host_config import host_config
from mount_tools.container.mount_words import Volume
from mount_tools.container.system_mounts import make_private, show_volumes
from mount_tools.container.volume_content import volumes_to_show
from unionfs.syscalls.namespaces import (
    CLONE_NEWNS,
    chroot_to,
    leave_chroot,
    mount_namespace,
    unshare,
)
from unionfs.syscalls.privilege import is_machine_root

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def root_with_volumes(store: Store, container: Container, point: str, path: str) -> Iterator[int]:
    """Yield the root of a container that is mounted on `point`, open, with its volumes in it.

    `path` is where the caller goes in it.  Raises StoreError.
    """
    volumes = [
        *host_config(RunConfig(container.config)).volumes,
        *volumes_to_show(store, container),
    ]
    if volumes and is_machine_root():
        with _shown(volumes, point) as fd:
            yield fd
        return
    _refuse(container, volumes, path)
    fd = os.open(point, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _refuse(container: Container, volumes: Sequence[Volume], path: str) -> None:
    plain = posixpath.normpath("/" + path.lstrip("/"))
    for volume in volumes:
        if plain == volume.target or plain.startswith(volume.target + "/"):
            raise StoreError(
                f"{shown(path)} is on a volume of container {container.name}, which an ordinary "
                "user reaches only while the container runs: start it first, or copy to "
                f"{shown(volume.source)}"
            )


@contextmanager
def _shown(volumes: Sequence[Volume], point: str) -> Iterator[int]:
    with ExitStack() as stack:

        def kept(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        before = kept(mount_namespace())
        chroot, here = (kept(os.open(name, _PLACE)) for name in ("/", "."))
        unshare(CLONE_NEWNS)
        try:
            # Of the new namespace: what is open from before leads to the old one.
            own, own_chroot = kept(mount_namespace()), kept(os.open("/", _PLACE))
            leave_chroot(own)
            make_private()
            chroot_to(own_chroot)
            root = os.open(point, _DIRECTORY)
            try:
                show_volumes(root, volumes)
                yield root
            finally:
                os.close(root)
        finally:
            leave_chroot(before)
            chroot_to(chroot)
            os.fchdir(here)
