"""Mount in another mount namespace, as `mount -N` does.

Decided here and only here: what happens in the other namespace and what in our own.  Only
the mount point is looked up there, and only mount(2) and umount2(2) are called there.  The
layers, the log, the store and our own modules are those of the namespace (and the chroot)
that the command was called in: "the target namespace does not have to contain any libraries
or other requirements" (mount(8)).  setns(2) replaces the root directory of its caller by
that of the namespace, so it is called in a short-lived child; the daemon never leaves.

Nothing here keeps the namespace alive.  When its last process ends, the kernel ends the
mount with it, and so the daemon.

Source: mount(8) "--namespace"; libmount `context_mount.c:exec_helper()`; mount_namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mount_tools.mount.fuse import FuseMount, mount_on_fd, open_device, unmount_device
from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.point import checked_mount_point
from mount_tools.mount.table import device_on
from unionfs.errors import ConfigError, MountError
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls.namespaces import CLONE_NEWNS, setns

if TYPE_CHECKING:
    from typing import NoReturn

_TABLE = "self/mountinfo"  # relative to the procfs that we had before setns(2)

_RESULT = b"r"
_CONFIG_ERROR = b"c"
_MOUNT_ERROR = b"m"


class MountNamespace:
    """Another mount namespace; `close` it as soon as the mount is made."""

    def __init__(self, path: str) -> None:
        """Open the namespace at `path`, such as /proc/PID/ns/mnt.

        Raises `ConfigError` if there is none.
        """
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(
                f"the mount namespace {path} cannot be opened: {error.strerror}"
            ) from None
        self._path = path
        self._inode = os.fstat(self._fd).st_ino

    def close(self) -> None:
        """Let the namespace go; `mount`'s result does not need it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def checked_mount_point(self, directory: str) -> str:
        """Return what `directory` resolves to there; raises `ConfigError` as `point` does."""
        return _in_namespace(self._fd, self._path, lambda: checked_mount_point(directory))

    def mount(self, point: str, options: MountOptions) -> FuseMount:
        """Mount FUSE on directory `point` there; nothing serves it yet.

        Raises `MountError`.
        """

        def mounted() -> str:
            mount_on_fd(fd, point, options)
            return device_on(point, _TABLE) or ""

        fd = open_device()
        try:
            device = _in_namespace(self._fd, self._path, mounted)
        except BaseException:
            os.close(fd)
            raise
        return _MountElsewhere(fd, point, device or None, self._inode)


class _MountElsewhere(FuseMount):
    """A mount in another mount namespace, which is found again by its inode number."""

    def __init__(self, fd: int, point: str, device: str | None, namespace: int) -> None:
        super().__init__(fd, point, device)
        self._namespace = namespace

    def unmount(self, *, detach: bool = True) -> None:
        namespace = _open_by_inode(self._namespace)
        if namespace < 0:
            raise MountError(
                f"no process is found in the mount namespace in which {self.point} is mounted; "
                f"the mount ends with that namespace"
            )

        def unmounted() -> str:
            unmount_device(self.point, self._device, detach=detach, table=_TABLE)
            return ""

        try:
            _in_namespace(namespace, "of the mount", unmounted)
        finally:
            os.close(namespace)


def _open_by_inode(inode: int) -> int:
    """Return the mount namespace with this inode number, open; -1 if no process is in it."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        path = f"/proc/{pid}/ns/mnt"
        try:
            if os.stat(path).st_ino != inode:
                continue
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # the process has ended, or we may not read its entries
        if os.fstat(fd).st_ino == inode:
            return fd
        os.close(fd)
    return -1


def _in_namespace(namespace: int, name: str, work: Callable[[], str]) -> str:
    """Return what `work()` returns in the mount namespace open as `namespace`.

    `work` runs in a child and with the procfs of our namespace as its working directory.
    Raises `ConfigError` or `MountError`, as `work` does or if the namespace cannot be entered.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _run_child(namespace, name, work, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    kind, text = answer[:1], answer[1:].decode(errors="surrogateescape")
    if kind == _CONFIG_ERROR:
        raise ConfigError(text)
    if kind != _RESULT:
        raise MountError(text or f"the process in the mount namespace {name} died")
    return text


def _run_child(namespace: int, name: str, work: Callable[[], str], report: int) -> NoReturn:
    kind, text = _MOUNT_ERROR, ""
    try:
        procfs = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        try:
            setns(namespace, CLONE_NEWNS)
        except OSError as error:
            raise MountError(
                f"the mount namespace {name} cannot be entered: {error.strerror}"
            ) from None
        os.fchdir(procfs)
        kind, text = _RESULT, work()
    except ConfigError as error:
        kind, text = _CONFIG_ERROR, str(error)
    except MountError as error:
        text = str(error)
    except OSError as error:
        text = str(error.strerror or error)
    except BaseException as error:
        text = f"a bug in PyUnion ({type(error).__name__}: {error})"
    finally:
        try:
            os.write(report, kind + text.encode(errors="surrogateescape"))
        finally:
            os._exit(0)
