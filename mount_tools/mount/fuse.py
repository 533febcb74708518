"""Mounting and unmounting FUSE: mount(2) as root, fusermount3 otherwise.

Decided here and only here: which options the kernel gets, and how a mount is found again
to unmount it.  Both transports serve the descriptor opened here.

Source: Linux `Documentation/filesystems/fuse.rst` "Mount options";
libfuse `lib/mount.c` and `util/fusermount.c` for the fd passing.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.table import OWN_TABLE, device_on
from unionfs.errors import MountBusy, MountError
from unionfs.light_logging import Logger
from unionfs.syscalls import mount as sys_mount

log = Logger(__name__)

DEVICE = "/dev/fuse"
_DEVICE_NUMBER = os.makedev(10, 229)  # Documentation/admin-guide/devices.txt
SUBTYPE = "pyunion"
FUSERMOUNT = "fusermount3"

# A file that we read for the kernel takes a request for each piece that is read ahead.
# With 512 instead of 128 KiB, 150 MiB take half the processor time.
_READ_AHEAD_KB = 512

# fusermount3 knows flags by name, and only these.
_FUSERMOUNT_FLAGS = {
    sys_mount.MS_RDONLY: "ro",
    sys_mount.MS_NOEXEC: "noexec",
    sys_mount.MS_SYNCHRONOUS: "sync",
    sys_mount.MS_DIRSYNC: "dirsync",
    sys_mount.MS_NOATIME: "noatime",
}


class FuseMount:
    """A live mount: the descriptor to serve, and where to unmount it."""

    def __init__(self, fd: int, point: str, device: str | None) -> None:
        """`device` is MAJOR:MINOR of the mount on `point`, None if that is unknown.

        It identifies the mount: by the time it is unmounted, another filesystem may be
        mounted on the same directory.
        """
        self.fd = fd
        self.point = point
        self._device = device

    @property
    def device(self) -> str | None:
        """MAJOR:MINOR of the mounted filesystem, None if it is unknown."""
        return self._device

    def read_ahead(self) -> None:
        """Let the kernel read up to `_READ_AHEAD_KB` ahead, where we may.

        FUSE_INIT can only lower what the kernel has for each filesystem, 128 KiB; so the
        daemon calls this after it has answered that.
        """
        path = f"/sys/class/bdi/{self._device}/read_ahead_kb"
        # Only root may, and a container has /sys for reading or not at all.
        with suppress(OSError), open(path, "r+") as file:
            if int(file.read()) < _READ_AHEAD_KB:
                file.seek(0)
                file.write(str(_READ_AHEAD_KB))

    def unmount(self, *, detach: bool = True) -> None:
        """Unmount; with `detach`, files that are still open on it stay usable.

        Raises MountBusy if the mount is in use, without `detach`; MountError for any other
        refusal.  Must not run in the thread that serves the mount: the kernel may have
        pages to write back first.
        """
        unmount_device(self.point, self._device, detach=detach)


def mounted_on(point: str) -> FuseMount:
    """Return the topmost mount on `point`, which another process serves, to unmount it."""
    return FuseMount(-1, point, device_on(point))


def unmount_device(point: str, device: str | None, *, detach: bool, table: str = OWN_TABLE) -> None:
    """Unmount `point` if `device` is still mounted there; see `FuseMount.unmount`.

    `table` is the path of a mountinfo.
    """
    if device is None:
        raise MountError(f"it is not known where {point} is mounted; use umount DIR")
    if device_on(point, table) != device:
        log.info("%s is no longer mounted here; nothing to unmount", point)
        return
    if os.geteuid() == 0:
        _unmount_as_root(point, detach)
        return
    try:
        _run_fusermount("-u", *(("-z",) if detach else ()), "--", point)
    except MountError:
        if device_on(point, table) != device:
            raise
        # It refuses to unmount a mount of our own for one reason only.
        raise MountBusy(_in_use(point)) from None


def _unmount_as_root(point: str, detach: bool) -> None:
    target = os.fsencode(point)
    try:
        sys_mount.umount(target, sys_mount.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise MountError(f"{point} cannot be unmounted: {error.strerror}") from None
        if not detach:
            raise MountBusy(_in_use(point)) from None
        log.info("%s is in use: detached; it ends when its last file is closed", point)
        sys_mount.umount(target, sys_mount.UMOUNT_NOFOLLOW | sys_mount.MNT_DETACH)


def _in_use(point: str) -> str:
    return f"{point} is in use; `fuser -vm {point}` shows by which processes"


def adopt(fd: int) -> FuseMount:
    """Return the mount behind `fd`, which mount.fuse3 opened and mounted.

    The mount point is unknown, so this mount can only be ended from outside.
    """
    try:
        found = os.fstat(fd)
        is_fuse = stat.S_ISCHR(found.st_mode) and found.st_rdev == _DEVICE_NUMBER
    except OSError:
        is_fuse = False
    if not is_fuse:
        raise MountError(f"descriptor {fd} is not {DEVICE}; give a directory to mount on")
    return FuseMount(fd, f"/dev/fd/{fd}", None)


def mount_fuse(point: str, options: MountOptions) -> FuseMount:
    """Mount FUSE on directory `point`; nothing serves it yet.

    Raises `MountError` with a sentence for the user.
    """
    if os.geteuid() == 0:
        return _mount_as_root(point, options)
    return _mount_by_fusermount(point, options)


def _mount_as_root(point: str, options: MountOptions) -> FuseMount:
    fd = open_device()
    try:
        mount_on_fd(fd, point, options)
    except BaseException:
        os.close(fd)
        raise
    return FuseMount(fd, point, device_on(point))


def mount_on_fd(fd: int, point: str, options: MountOptions) -> None:
    """Mount FUSE on `point`; its requests will arrive at `fd`, an open `/dev/fuse`.

    Raises `MountError`.
    """
    words = [
        f"fd={fd}",
        f"rootmode={stat.S_IFDIR:o}",
        f"user_id={os.geteuid()}",
        f"group_id={os.getegid()}",
        "default_permissions",
    ]
    if options.allow_other:
        words.append("allow_other")
    if os.path.exists("/sys/fs/selinux/enforce"):
        words += options.selinux
    # MS_POSIXACL makes the kernel leave the umask to us, since a default
    # ACL of the parent takes its place (fs/fuse/inode.c, fc->dont_mask).
    flags = options.flags | (sys_mount.MS_POSIXACL if options.acl else 0)
    try:
        sys_mount.mount(
            os.fsencode(options.fsname or SUBTYPE),
            os.fsencode(point),
            b"fuse." + SUBTYPE.encode(),
            flags,
            ",".join(words).encode(),
        )
    except OSError as error:
        raise MountError(_why_refused(point, error)) from None


def open_device() -> int:
    """Open `/dev/fuse`; raises `MountError` with what to do if that fails."""
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            hint = "this kernel has no FUSE; try modprobe fuse"
        elif error.errno in (errno.EACCES, errno.EPERM):
            hint = f"this user may not open it; as root: chmod 0666 {DEVICE}"
        else:
            hint = str(error.strerror)
        raise MountError(f"{DEVICE} cannot be opened: {hint}") from None


def _why_refused(point: str, error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return (
            f"mounting on {point} is not permitted: root lacks CAP_SYS_ADMIN here; "
            f"try a namespace of your own: unshare --user --map-root-user --mount"
        )
    return f"the kernel refused to mount on {point}: {error.strerror}"


def _mount_by_fusermount(point: str, options: MountOptions) -> FuseMount:
    from mount_tools.mount.option_grammar import escaped  # root's mounts need no words

    words = ["default_permissions", f"subtype={SUBTYPE}"]
    words.append(f"fsname={escaped(options.fsname or SUBTYPE)}")
    words += [word for flag, word in _FUSERMOUNT_FLAGS.items() if options.flags & flag]
    if options.allow_other:
        words.append("allow_other")
    import socket  # here, and subprocess below: root's mounts should not wait for them

    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.set_inheritable(theirs.fileno(), True)
        _run_fusermount("-o", ",".join(words), "--", point, pass_fd=theirs.fileno())
        theirs.close()
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    if not fds:
        raise MountError(f"{FUSERMOUNT} mounted {point} but passed no descriptor")
    os.set_inheritable(fds[0], False)
    return FuseMount(fds[0], point, device_on(point))


def _run_fusermount(*arguments: str, pass_fd: int | None = None) -> None:
    """Run fusermount3; raise `MountError` with its message if it fails."""
    import subprocess

    environment = {**os.environ, "LC_ALL": "C"}
    if pass_fd is not None:
        environment["_FUSE_COMMFD"] = str(pass_fd)
    try:
        done = subprocess.run(
            [FUSERMOUNT, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=() if pass_fd is None else (pass_fd,),
            check=False,
        )
    except OSError as error:
        raise MountError(
            f"{FUSERMOUNT} cannot be run: {error.strerror}; "
            f"an ordinary user needs it to mount (Debian package fuse3)"
        ) from None
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())
        said = said or f"{FUSERMOUNT} failed with status {done.returncode}"
        closed = os.path.exists(DEVICE) and not os.access(DEVICE, os.R_OK | os.W_OK)
        if pass_fd is not None and closed:
            said += f": {DEVICE} is not for every user; root can allow it: chmod 0666 {DEVICE}"
        raise MountError(said)
