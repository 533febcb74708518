"""Checks of the mount point, made before anything is changed.

Decided here and only here: which directories a union may be mounted on.  With a layer
beneath its own mount point, or a mount point inside a layer, the daemon would send requests
to itself and wait for its own answer for ever.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import cache

from unionfs import UnionConfig
from unionfs.errors import ConfigError

# An open, mounted /dev/fuse handed over by mount.fuse3 -o drop_privileges.
_FD_PATH = "/dev/fd/"


def inherited_fd(directory: str) -> int | None:
    """Return the number in a mount point of the form /dev/fd/N, else None."""
    number = directory.removeprefix(_FD_PATH)
    if number == directory or not (number.isascii() and number.isdigit()) or len(number) > 9:
        return None
    return int(number)


def checked_mount_point(directory: str) -> str:
    """Return the real path of `directory`, which can be mounted on.

    Raises `ConfigError` with a sentence for the user if it cannot.
    """
    try:
        resolved = os.path.realpath(directory, strict=True)
        is_directory = stat.S_ISDIR(os.stat(resolved).st_mode)
    except OSError as error:
        raise ConfigError(_why_not(directory, error)) from None
    if not is_directory:
        raise ConfigError(f"the mount point {directory} is not a directory; give a directory")
    return resolved


def _why_not(directory: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"the mount point {directory} does not exist; create it with mkdir -p {directory}"
    if error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED):
        clear = "umount -l" if os.geteuid() == 0 else "fusermount3 -uz"
        return (
            f"the mount point {directory} holds a mount whose server has died; "
            f"clear it with {clear} {directory}"
        )
    if error.errno == errno.ENOTDIR:
        return f"the mount point {directory} is not a directory; give a directory"
    return f"the mount point {directory} cannot be used: {error.strerror}"


def check_layers_apart(config: UnionConfig, mount_point: str) -> None:
    """Raise `ConfigError` if a layer contains the mount point, or the mount point a layer.

    Mounting over a lower layer itself is safe, since layers are accessed through
    descriptors opened before the mount.  Opening the union reports directories that do not
    exist.
    """
    point = os.path.normpath(mount_point)
    lowers = [("the lower layer", path) for path in (*config.lowers, *config.data)]
    writable = [("upperdir", config.upper), ("workdir", config.work)]
    real_parent = cache(os.path.realpath)  # hundreds of layers lie in few directories
    for kind, raw in [*lowers, *writable]:
        if raw is None:
            continue
        layer = _real_path(os.fsdecode(raw), real_parent)
        if _is_beneath(layer, point) or (layer == point and kind != "the lower layer"):
            raise ConfigError(
                f"{kind} {layer} lies beneath the mount point {point}, "
                f"where the mount would hide it from itself; mount somewhere else"
            )
        if _is_beneath(point, layer):
            raise ConfigError(
                f"the mount point {point} lies inside {kind} {layer}, "
                f"so the union would contain itself; mount somewhere else"
            )


def _real_path(path: str, real_parent: Callable[[str], str]) -> str:
    """Return `path` without links; `real_parent` does that for the directory that it is in."""
    parent, name = os.path.split(path)
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    found = os.path.join(real_parent(parent), name)
    return os.path.realpath(found) if os.path.islink(found) else found


def _is_beneath(inner: str, outer: str) -> bool:
    return inner != outer and inner.startswith(outer.rstrip("/") + "/")
