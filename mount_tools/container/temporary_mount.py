"""The mount of a container that does not run, while commands copy from it or to it.

Decided here and only here: who makes it, and who removes it.  Each command that uses it holds
`containers/<id>/copying` by a shared flock(2); the one that mounts or unmounts holds it alone.
So the last one unmounts, whichever came first, and one that comes meanwhile waits.  A mount that
a command left which was killed is taken over.

Threading: any thread.  Source: flock(2).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.containers.container import Container
from layerstore.db.file_locks import try_lock
from layerstore.errors import Busy, Conflict, NotFound
from layerstore.store import Store
from mount_tools.container.mount import mount_container, unmount_container

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def place_of(container: Container) -> Path:
    """Return the directory that such a mount is on."""
    return container.directory / "merged"


def may_mount(container: Container) -> bool:
    """Tell whether the container neither runs nor is mounted, but by another copy."""
    return container.init is None and container.mount_point in (None, str(place_of(container)))


@contextmanager
def temporary_mount(store: Store, container: Container) -> Iterator[Container]:
    """Yield the container mounted; or as it is then, if it was started or mounted meanwhile.

    Raises StoreError if it cannot be mounted, and NotFound if it was removed.
    """
    store.containers.check_upper(container)
    store.database.require_writable()
    fd = os.open(container.directory / "copying", _OPEN, 0o600)
    try:
        container = _mounted(store, container, fd)
        try:
            yield container
        finally:
            if try_lock(fd):  # nobody else uses it
                _unmount(store, container)
    finally:
        os.close(fd)


def _mounted(store: Store, container: Container, fd: int) -> Container:
    while True:
        fcntl.flock(fd, fcntl.LOCK_SH)
        container = store.containers.get(container.id)
        if container.running:
            return container
        # Of two that try it at once one may lose its shared lock, but then the other has both.
        if try_lock(fd):
            point = place_of(container)
            point.mkdir(mode=0o755, exist_ok=True)
            with suppress(Conflict):  # it was started or mounted since
                mount_container(store, container, os.fspath(point))


def _unmount(store: Store, container: Container) -> None:
    with suppress(NotFound):  # it was removed, by force
        container = store.containers.get(container.id)
        if container.mount_point == str(place_of(container)):
            with suppress(Busy):  # a program has a file in it open; the daemon ends with that
                unmount_container(container, detach=True)
