"""The mark `<workdir>/work/incompat/volatile`: the upper was written without any sync.

Its format is that of overlayfs, which refuses every workdir that has one.  In addition
the file `boot_id` in it has the boot ID of the machine at the time of the mount.  In
the same boot everything that was written is at least in the page cache, so a later mount
may use the upper.  After a reboot, files may be incomplete or missing, and only the user
can decide to use the upper all the same.

The mark is not synced either.  After a power cut its `boot_id` may be missing; such a mark
is treated as one of an earlier boot.

Source: overlayfs.rst "Volatile mount"; super.c:ovl_create_volatile_dirty();
readdir.c:ovl_workdir_cleanup_recurse(); proc_sys_kernel(5), random/boot_id.
"""

from __future__ import annotations

import os
from contextlib import suppress

from unionfs.core.layer import Fd, Layer, open_regular
from unionfs.core.workdir import INCOMPAT, WorkDir, open_private_dir
from unionfs.errors import ConfigError
from unionfs.light_logging import Logger
from unionfs.syscalls.removal import open_own_dir, remove_tree
from unionfs.syscalls.syncfs import syncfs

log = Logger(__name__)

_VOLATILE = b"volatile"
_BOOT_ID = b"boot_id"
_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_volatile_mark(work_base: Fd, upper_path: bytes, work_path: bytes) -> bool:
    """Tell whether the workdir `work_base` has a mark of the present boot.

    Changes nothing but the mode of our own directories if it denies us access.
    Raises `ConfigError` for a mark of an earlier boot or of overlayfs, and for any other
    feature that overlayfs would refuse.
    """
    upper, work = os.fsdecode(upper_path), os.fsdecode(work_path)
    try:
        staging = open_private_dir(work_base, b"work", create=False)
        incompat = Fd(open_own_dir(INCOMPAT, staging))
        features = os.listdir(b"/proc/self/fd/%d" % incompat)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(f"workdir {work} cannot be read: {error.strerror}") from None
    for feature in features:
        if feature != _VOLATILE:
            raise ConfigError(
                f"workdir {work} was used with the feature {os.fsdecode(feature)!r}, which is not "
                "known here: start with a new upperdir and workdir"
            )
    if not features:
        return False
    marked = _read_boot_id(incompat)
    if marked and marked == boot_id():
        return True
    when = "before the last boot of the machine" if marked else "by another program"
    raise ConfigError(
        f"upperdir {upper} was mounted volatile {when}, so files may be incomplete or missing: "
        f"start with a new upperdir, or remove {work}/work/incompat/volatile to use it all the same"
    )


def leave_volatile_mark(work: WorkDir) -> None:
    """Make the mark, with the boot ID of the present boot."""
    incompat = work.make_dir(INCOMPAT)
    os.mkdir(_VOLATILE, 0o700, dir_fd=incompat)
    volatile = Fd(open_own_dir(_VOLATILE, incompat))
    os.close(os.open(b"dirty", _NEW_FILE, 0o600, dir_fd=volatile))
    fd = Fd(os.open(_BOOT_ID, _NEW_FILE, 0o600, dir_fd=volatile))
    os.write(fd, boot_id())


def end_volatile(upper: Layer, work: WorkDir, upper_path: bytes) -> None:
    """Write back what volatile mounts of this boot wrote to `upper`, and remove their mark.

    Raises `ConfigError` if that fails; the mark stays then.
    """
    log.info("syncing %r, which was mounted volatile", upper_path)
    try:
        syncfs(upper.root.fd())
    except OSError as error:
        raise ConfigError(
            f"upperdir {os.fsdecode(upper_path)} was mounted volatile and cannot be synced: "
            f"{error.strerror}; check its filesystem, or mount it volatile again"
        ) from None
    remove_tree(work.fd, INCOMPAT)


def _read_boot_id(incompat: Fd) -> bytes:
    """Return the boot ID in the mark, b"" if it has none."""
    with suppress(OSError):
        volatile = Fd(open_own_dir(_VOLATILE, incompat))
        return os.read(open_regular(_BOOT_ID, volatile), 64)
    return b""


def boot_id() -> bytes:
    """Return the boot ID of the machine, b"" if /proc does not have it."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read(64)
    return b""
