"""Find the mount namespaces that keep a filesystem mounted, and abort its connection.

A mount namespace that was copied while the mount existed has its own mount of the
same filesystem.  umount(2) does not unmount that one, so the connection does not end.

Source: mount_namespaces(7); Documentation/filesystems/fuse.rst "The 'fuse' connections
filesystem".
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from unionfs.errors import MountError
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.mount import MNT_DETACH, mount, umount
from unionfs.syscalls.mountinfo import read_mounts

_CONNECTIONS = Path("/sys/fs/fuse/connections")


class Holder(NamedTuple):
    """A mount namespace with a mount of the device, by one process in it."""

    pid: int
    command: str
    namespace: int
    mount_point: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command}) in mnt:[{self.namespace}] on {self.mount_point}"


def holders(device: str, proc: Path = Path("/proc")) -> list[Holder]:
    """Return the mount namespaces in which `device` (MAJOR:MINOR) is mounted.

    Each is identified by its process with the lowest pid.  A namespace that this process
    may not read, or that only an open file keeps alive, is not found.
    """
    found: list[Holder] = []
    seen: set[int] = set()
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdecimal()):
        folder = proc / str(pid)
        try:
            namespace = os.stat(folder / "ns" / "mnt").st_ino
            if namespace in seen:
                continue
            mounts = read_mounts(str(folder / "mountinfo"))
            command = (folder / "comm").read_text(errors="replace").strip()
        except OSError:
            continue  # it has ended, or we may not read its entries
        seen.add(namespace)
        points = [os.fsdecode(each.mount_point) for each in mounts if each.device == device]
        if points:
            found.append(Holder(pid, command, namespace, points[0]))
    return found


def abort_connection(device: str, connections: Path = _CONNECTIONS) -> None:
    """End the FUSE connection of `device` by force: all that use it get ENOTCONN from now on.

    Raises `MountError`.
    """
    # A connection is named by the minor number of its filesystem, whose major is 0.
    abort = Path(device.partition(":")[2]) / "abort"
    try:
        try:
            (connections / abort).write_text("1")
        except FileNotFoundError:
            _abort_in_own_mount(abort)
    except OSError as error:
        raise MountError(
            f"the FUSE connection of {device} cannot be aborted ({error.strerror}): mount "
            f"fusectl on {connections}, or end the processes that hold the mount"
        ) from None


def _abort_in_own_mount(abort: Path) -> None:
    """Write to the file `abort` of a fusectl that nothing has mounted; raises `OSError`."""
    with tempfile.TemporaryDirectory(prefix="pyunion-fusectl-") as place:
        mount(b"fusectl", os.fsencode(place), b"fusectl", 0, b"")
        try:
            (Path(place) / abort).write_text("1")
        finally:
            umount(os.fsencode(place), MNT_DETACH)
