"""The user namespace in which an ordinary user is root of what is his.

Decided here and only here: when he enters one.  To run containers he must; and what was
made in them, with modes that keep out everybody but root, he reads only as that.

Threading: one thread, or the kernel refuses.

Source: user_namespaces(7).
"""

from __future__ import annotations

import os
from contextlib import suppress

from layerstore.containers.containers import Container
from layerstore.db.processes import way_in
from layerstore.errors import StoreError
from unionfs.syscalls.namespaces import CLONE_NEWUSER, become_root_of_own, setns


def be_root() -> None:
    """Make sure that we may run containers: an ordinary user does as root of a user namespace.

    Raises StoreError where there are none for him.
    """
    if os.geteuid() == 0:
        return
    try:
        become_root_of_own()
    except OSError as error:
        raise StoreError(
            f"an ordinary user runs containers in a user namespace, and there is none to be had: "
            f"{error.strerror}; try sudo, or `pyunion mount` and chroot"
        ) from None


def read_all(container: Container | None = None) -> None:
    """Let an ordinary user read what is his, whatever its mode, and a running container's mount.

    Where there are no user namespaces for him, none of it was made in one.
    """
    if os.geteuid() == 0:
        return
    with suppress(OSError):
        if container is None or not container.running or container.mount_point is not None:
            become_root_of_own()
            return
        fd = os.open(f"/proc/{way_in(container.pid or 0)}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd, CLONE_NEWUSER)
        finally:
            os.close(fd)
