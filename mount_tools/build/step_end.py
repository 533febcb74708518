"""The end of a step, in both kinds of stage: what it has changed, and that nobody holds its files.

A step is a layer if its upper has an entry, or if it has changed the root directory itself.
No process outside of the build may have files of the step open any more.
"""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.syscalls import xattr

PATIENCE = 5.0
"""Seconds for files that nobody uses any more to be closed."""

HELD = (
    "a process outside of the build has files of the step open, with which it could change the "
    "layer later: end it, or build with --network none"
)
"""Why a step fails that has given descriptors away."""

OWN_PREFIXES = ("trusted.overlay.", "user.overlay.")
"""What the attributes of an upper begin with that are overlayfs's own."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def is_changed(upper: Path, was: tuple[object, ...]) -> bool:
    """Tell whether there is anything to freeze in an upper whose root `was` as described."""
    return bool(os.listdir(upper)) or describe_root(upper) != was


def describe_root(upper: Path) -> tuple[object, ...]:
    """Return the attributes of an upper's root that a step can change."""
    fd = os.open(upper, _DIRECTORY)
    try:
        found = os.fstat(fd)
        values = [item for item in xattr.items_fd(fd) if not item[0].startswith(OWN_PREFIXES)]
        return found.st_mode, found.st_uid, found.st_gid, values
    finally:
        os.close(fd)
