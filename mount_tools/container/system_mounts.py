"""Mount /proc, /sys, /dev, files of /etc and the volumes into a container's root.

Decided here and only here: which mounts there are and with which flags.  They are made in
the container's own mount namespace, before its root becomes `/`.  Each mount point is
found, or made, beneath the root's fd, so that no link of the image leads out of it.  The
target of a mount is /proc/self/fd/N, which leads to exactly the file that was found.

Source: runtime-spec config-linux.md "Default Filesystems"; moby
`oci/defaults.go` for what of /proc is masked and read-only.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from layerstore.errors import StoreError
from mount_tools.container.devices import Device, Node, nodes
from mount_tools.container.mount_words import Tmpfs, Volume
from unionfs.syscalls.attributes import chmod_at
from unionfs.syscalls.mount import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    MS_STRICTATIME,
    mount,
)
from unionfs.syscalls.openat2 import open_in_root

_SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC
_DEVICES = {
    "null": os.makedev(1, 3),
    "zero": os.makedev(1, 5),
    "full": os.makedev(1, 7),
    "random": os.makedev(1, 8),
    "urandom": os.makedev(1, 9),
    "tty": os.makedev(5, 0),
}
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_READ_ONLY = ("proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")
_MASKED = (
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/sched_debug",
    "proc/scsi",
    "sys/devices/virtual/powercap",
    "sys/firmware",
)


def make_private() -> None:
    """Keep the mounts of this namespace, made from now on, out of all others."""
    mount(b"none", b"/", b"", MS_REC | MS_SLAVE, b"")


def furnish(
    root: int,
    volumes: Sequence[Volume],
    files: Mapping[str, str],
    *,
    read_only: bool,
    tmpfs: Sequence[Tmpfs] = (),
    devices: Sequence[Device] = (),
    privileged: bool = False,
) -> int:
    """Mount /proc, /sys, /dev, the volumes and the `files` of /etc into `root`.

    The `devices` of this machine are made too.  If `privileged`, /proc and /sys are whole and
    writable, and /dev has all devices of this machine.  Returns the container's /proc, open;
    the caller closes it.
    """
    _furnish_proc(root)
    proc = open_in_root(root, b"proc", os.O_PATH | os.O_DIRECTORY)
    _furnish_sys(root, writable=privileged)
    _furnish_dev(root)
    if privileged:
        _add_devices(root)
    else:
        _hide(root)
    shows: list[tuple[str, Callable[[], None]]] = [
        *((one.target, partial(_show_tmpfs, root, one)) for one in tmpfs),
        *((target, partial(_show_file, root, target, source)) for target, source in files.items()),
        *((volume.target, partial(_show, root, volume)) for volume in volumes),
    ]
    # A mount would hide those that were made beneath its target before.
    for _, show in sorted(shows, key=lambda pair: _depth(pair[0])):
        show()
    for device in devices:
        for node in nodes(device):
            _show_device(root, node)
    if read_only:
        _remount(root, ".", MS_RDONLY | MS_NODEV)
    return proc


def _hide(root: int) -> None:
    """Hide, or make read-only, what of /proc and /sys is the machine's."""
    for path in _MASKED:
        _mask(root, path)
    for path in _READ_ONLY:
        with suppress(FileNotFoundError), PinnedPath(root, path) as place:
            _bind(place.path, place.path)
            _remount(root, path, MS_RDONLY | _SAFE)


def _show_tmpfs(root: int, one: Tmpfs) -> None:
    try:
        with mount_point(root, one.target.strip("/"), folder=True) as place:
            flags, data = one.mount_options()
            mount(b"tmpfs", place.path, b"tmpfs", flags, data)
    except OSError as error:
        raise StoreError(
            f"a tmpfs cannot be mounted on {one.target}: {error.strerror}; "
            "see tmpfs(5) for the options it takes"
        ) from None


def _show_file(root: int, target: str, source: str) -> None:
    with suppress(OSError), mount_point(root, target, folder=False) as place:
        _bind(os.fsencode(source), place.path)


@contextmanager
def _own_directory(root: int, name: str) -> Iterator[PinnedPath]:
    """Yield the directory `name` of `root`; raises StoreError if it cannot be mounted on."""
    try:
        place = mount_point(root, name, folder=True)
    except OSError as error:
        raise StoreError(
            f"the image has no directory /{name}, and none can be made: {error.strerror}"
        ) from None
    with place:
        found = os.fstat(place.fd)
        # A mount on the root itself would hide the image only from some of our system calls.
        if not stat.S_ISDIR(found.st_mode) or os.path.samestat(found, os.fstat(root)):
            raise StoreError(f"/{name} of the image is not a directory of its own")
        yield place


def _furnish_proc(root: int) -> None:
    try:
        with _own_directory(root, "proc") as place:
            mount(b"proc", place.path, b"proc", _SAFE, b"")
    except PermissionError:
        raise StoreError(
            "/proc cannot be mounted for the container: the kernel allows an ordinary user to "
            "mount it only if the whole /proc of the machine is visible, which is not so in most "
            "containers; try sudo"
        ) from None


def _furnish_sys(root: int, *, writable: bool) -> None:
    with _own_directory(root, "sys") as place:
        try:
            mount(b"sysfs", place.path, b"sysfs", _SAFE | (0 if writable else MS_RDONLY), b"")
            return
        except PermissionError:
            # It shows the network, which belongs to another user namespace than ours.
            _bind(b"/sys", place.path)
    _remount(root, "sys", MS_RDONLY | _SAFE)
    _mask(root, "sys/fs/cgroup")  # parts of it may be delegated to this user


def _furnish_dev(root: int) -> None:
    with _own_directory(root, "dev") as place:
        flags = MS_NOSUID | MS_STRICTATIME
        mount(b"tmpfs", place.path, b"tmpfs", flags, b"mode=755,size=65536k")
    with PinnedPath(root, "dev") as dev:
        for name, number in _DEVICES.items():
            _make_device(dev, name, number)
        for name, target in _LINKS.items():
            os.symlink(target, name, dir_fd=dev.fd)
        for name in ("pts", "shm"):
            os.mkdir(name, 0o755, dir_fd=dev.fd)
    with PinnedPath(root, "dev/pts") as place:
        options, flags = b"newinstance,ptmxmode=0666,mode=0620", MS_NOSUID | MS_NOEXEC
        try:
            mount(b"devpts", place.path, b"devpts", flags, options + b",gid=5")
        except OSError as error:
            if error.errno != errno.EINVAL:  # a user namespace of one user lacks the group
                raise
            mount(b"devpts", place.path, b"devpts", flags, options)
    with PinnedPath(root, "dev/shm") as place:
        mount(b"shm", place.path, b"tmpfs", _SAFE, b"mode=1777,size=65536k")


def _make_device(dev: PinnedPath, name: str, number: int) -> None:
    try:
        os.mknod(name, stat.S_IFCHR, number, dir_fd=dev.fd)
        os.chmod(dev.path + b"/" + name.encode(), 0o666)
    except PermissionError:
        # A user namespace cannot make devices.  The machine's are bound instead.
        with mount_point(dev.fd, name, folder=False) as place:
            _bind(b"/dev/" + name.encode(), place.path)


def _add_devices(root: int) -> None:
    """Make the machine's devices, those that are in /dev itself, in the container's."""
    with PinnedPath(root, "dev") as dev:
        for entry in os.scandir("/dev"):
            st = entry.stat(follow_symlinks=False)
            if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                with suppress(FileExistsError, PermissionError):
                    os.mknod(entry.name, st.st_mode, st.st_rdev, dir_fd=dev.fd)


def _show_device(root: int, node: Node) -> None:
    above, name = posixpath.split(node.path.strip("/"))
    try:
        with mount_point(root, above, folder=True) as folder:
            try:
                os.mknod(name, node.st.st_mode, node.st.st_rdev, dir_fd=folder.fd)
            except FileExistsError:
                return  # docker's default devices are there, and privileged has all
            except PermissionError:
                with mount_point(folder.fd, name, folder=False) as place:
                    _bind(os.fsencode(node.source), place.path)
                return
            path = folder.path + b"/" + os.fsencode(name)
            os.chown(path, node.st.st_uid, node.st.st_gid, follow_symlinks=False)
            chmod_at(folder.fd, os.fsencode(name), stat.S_IMODE(node.st.st_mode))
    except OSError as error:
        raise StoreError(
            f"the device {node.source} cannot be made as {node.path}: {error.strerror}"
        ) from None


def show_console(root: int, terminal: int) -> None:
    """Bind the terminal that is open as `terminal` on /dev/console."""
    with mount_point(root, "dev/console", folder=False) as place:
        _bind(b"/proc/self/fd/%d" % terminal, place.path)


def _mask(root: int, path: str) -> None:
    with suppress(FileNotFoundError), PinnedPath(root, path) as place:
        if stat.S_ISDIR(os.fstat(place.fd).st_mode):
            mount(b"tmpfs", place.path, b"tmpfs", _SAFE | MS_RDONLY, b"size=0")
            return
        # Not the machine's /dev/null, whose mode and owner root of the container could change.
        with PinnedPath(root, "dev/null") as null:
            _bind(null.path, place.path)


def show_volumes(root: int, volumes: Sequence[Volume]) -> None:
    """Mount the volumes into `root`, those above others first.  Raises StoreError."""
    for volume in sorted(volumes, key=lambda one: _depth(one.target)):
        _show(root, volume)


def _depth(target: str) -> int:
    return target.strip("/").count("/")


def _show(root: int, volume: Volume) -> None:
    folder = os.path.isdir(volume.source)
    try:
        with mount_point(root, volume.target.strip("/"), folder=folder) as place:
            _bind(os.fsencode(volume.source), place.path)
        if volume.read_only or not volume.devices:
            with PinnedPath(root, volume.target.strip("/")) as place:
                restrict(place, read_only=volume.read_only, devices=volume.devices)
    except OSError as error:
        raise StoreError(
            f"{volume.source} cannot be mounted on {volume.target}: {error.strerror}"
        ) from None


def _bind(source: bytes, target: bytes) -> None:
    mount(source, target, b"", MS_BIND | MS_REC, b"")


def restrict(place: PinnedPath, *, read_only: bool, devices: bool) -> None:
    """Make the mount whose root is `place`, with all mounts in it, read-only, nodev or both.

    Without `devices` those in it cannot be opened.  What the machine mounts in it later does not
    get there.  Raises OSError, EOPNOTSUPP if there are mounts in it and the kernel, before Linux
    5.12, can change only the first.
    """
    # Few containers need it.
    from unionfs.syscalls.mount_tree import (
        MOUNT_ATTR_NODEV,
        MOUNT_ATTR_RDONLY,
        set_mount_attributes,
    )

    attributes = MOUNT_ATTR_RDONLY if read_only else 0
    attributes |= 0 if devices else MOUNT_ATTR_NODEV
    try:
        set_mount_attributes(place.fd, attributes, 0, MS_PRIVATE, recursive=True)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        from unionfs.syscalls.mountinfo import read_mounts

        inside = os.readlink(place.path) + b"/"
        if any(found.mount_point.startswith(inside) for found in read_mounts()):
            how = "read-only" if read_only else "nodev"
            raise OSError(
                errno.EOPNOTSUPP,
                f"there are other mounts in it, which Linux makes {how} since 5.12; "
                + ("bind it writable, or unmount them" if devices else "unmount them"),
            ) from None
        _set_flags(place, (MS_RDONLY if read_only else 0) | (0 if devices else MS_NODEV))


def _remount(root: int, path: str, flags: int) -> None:
    with PinnedPath(root, path) as place:
        _set_flags(place, flags)


def _set_flags(place: PinnedPath, flags: int) -> None:
    # A remount clears the flags that it does not repeat.
    flags |= os.fstatvfs(place.fd).f_flag & _SAFE
    mount(b"none", place.path, b"", MS_BIND | MS_REMOUNT | flags, b"")


class PinnedPath:
    """The file at `path` beneath `root`, open; its own `path` leads to exactly that file."""

    def __init__(self, root: int, path: str) -> None:
        self.fd = open_in_root(root, os.fsencode(path), os.O_PATH)
        self.path = b"/proc/self/fd/%d" % self.fd

    def __enter__(self) -> PinnedPath:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def mount_point(root: int, path: str, *, folder: bool) -> PinnedPath:
    """Return the place of `path`; missing components are made."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(errno.EINVAL, "a mount point has no ..", path)
    for depth in range(1, len(parts) + 1):
        here = "/".join(parts[:depth])
        try:
            with PinnedPath(root, here):
                continue
        except FileNotFoundError:
            with PinnedPath(root, "/".join(parts[: depth - 1])) as above:
                if depth < len(parts) or folder:
                    os.mkdir(parts[depth - 1], 0o755, dir_fd=above.fd)
                else:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
                    os.close(os.open(parts[depth - 1], flags, 0o644, dir_fd=above.fd))
    return PinnedPath(root, "/".join(parts))
