"""`-o remount`: changing the flags of a live mount, as mount(8) asks its helper to.

Decided here and only here: what can be changed.  The flags of mount(2) can; the union
cannot, and as in overlayfs all its options are ignored: mount(8) repeats those of fstab.
A flag that is not given is cleared, and mount(8) repeats those that the mount has.

Source: mount(2) MS_REMOUNT; mount(8) "remount"; fs/overlayfs/params.c:ovl_parse_param().
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from mount_tools.mount.option_grammar import words
from mount_tools.mount.option_table import VFS_FLAGS
from unionfs.errors import MountError
from unionfs.syscalls.mount import MS_REMOUNT, mount
from unionfs.syscalls.mountinfo import read_mounts


def is_remount(given: Iterable[str]) -> bool:
    """Tell whether the option strings ask for a remount.  Raises OptionError."""
    return any(word.name == "remount" for text in given for word in words(text))


def remount(directory: str, given: Iterable[str]) -> None:
    """Change the flags of the mount on the absolute path `directory`.

    The daemon keeps the access time options of the first mount for the layers.  Raises
    OptionError, MountError if no union is mounted there, and the OSError of mount(2).
    """
    resolved = os.fsencode(os.path.realpath(directory))
    found = next((m for m in reversed(read_mounts()) if m.mount_point == resolved), None)
    if found is None or not found.fs_type.startswith(b"fuse"):
        raise MountError(f"{directory} is not the mount point of a union; nothing is remounted")
    flags = 0
    for text in given:
        for word in words(text):
            on, off = VFS_FLAGS.get(word.name, (0, 0))
            flags = flags & ~off | on
    mount(b"none", resolved, b"none", flags | MS_REMOUNT, b"")
