"""`-o remount`: changing the flags of a live mount, as mount(8) asks its helper to.

Decided here and only here: what can be changed.  The flags of mount(2) can; the union
cannot, and as in overlayfs all its options are ignored: mount(8) repeats those of fstab.
A flag that is not given is cleared, and mount(8) repeats those that the mount has, or those
of fstab.  The exception is the mount of an image, which is nosuid and nodev without these
words: unless the options name layers, both flags stay until allow_suid or allow_dev is given.

Source: mount(2) MS_REMOUNT; mount(8) "remount"; fs/overlayfs/params.c:ovl_parse_param().
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from mount_tools.mount.option_grammar import words
from mount_tools.mount.option_table import VFS_FLAGS
from mount_tools.mount.options import LAYER_OPTIONS
from unionfs.errors import MountError
from unionfs.syscalls.mount import MS_NODEV, MS_NOSUID, MS_REMOUNT, mount
from unionfs.syscalls.mountinfo import read_mounts

_KEPT = {b"nosuid": MS_NOSUID, b"nodev": MS_NODEV}


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
    asked = [word.name for text in given for word in words(text)]
    if not LAYER_OPTIONS.intersection(asked):
        for option in found.options:
            flags |= _KEPT.get(option, 0)
    for name in asked:
        on, off = VFS_FLAGS.get(name, (0, 0))
        flags = flags & ~off | on
    mount(b"none", resolved, b"none", flags | MS_REMOUNT, b"")
