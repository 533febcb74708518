"""The user namespace in which an ordinary user is root of their own files, and of sub-ids.

Decided here and only here: when it is entered: to run containers, and to read files that
were made in them with modes that allow only root.

Threading: one thread, or the kernel refuses.

Source: user_namespaces(7).
"""

from __future__ import annotations

import os
from contextlib import suppress

from layerstore.containers.container import Container
from layerstore.db.processes import way_in
from layerstore.errors import StoreError
from layerstore.user import remember_user, user_id
from mount_tools.container import sub_ids
from unionfs.syscalls.namespaces import CLONE_NEWUSER, setns


def be_root() -> None:
    """Become root of a new user namespace unless this process is root.

    Raises StoreError if the kernel refuses one.
    """
    if os.geteuid() == 0:
        return
    try:
        sub_ids.enter()
    except OSError as error:
        raise StoreError(
            "an ordinary user runs containers in a user namespace, which the kernel refuses "
            f"({error.strerror}); try sudo, or `pyunion mount` and chroot"
        ) from None


def read_all(container: Container | None = None) -> None:
    """Let an ordinary user read their own files of any mode, and a running container's mount.

    Nothing is done if the kernel refuses user namespaces: then none of it was made in one.
    """
    if os.geteuid() == 0:
        return
    with suppress(OSError):
        if container is None or container.init is None:
            sub_ids.enter()
            return
        fd = os.open(f"/proc/{way_in(container.init)}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            remember_user(user_id())
            setns(fd, CLONE_NEWUSER)
        finally:
            os.close(fd)
