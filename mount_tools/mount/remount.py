"""`-o remount`: changing the flags of a live mount, as mount(8) asks its helper to.

Decided here and only here: what can be changed.  The flags of mount(2) can, the union
cannot: its layers and options stay as they are.  mount(8) repeats the options that the
mount has, so what says nothing new is passed over.

Source: mount(2) MS_REMOUNT; mount(8) "remount".
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from mount_tools.mount.option_grammar import OptionError, Word, words
from mount_tools.mount.option_table import VFS_FLAGS, is_ignored
from unionfs.errors import MountError
from unionfs.syscalls.mount import MS_REMOUNT, mount
from unionfs.syscalls.mountinfo import read_mounts

# What FUSE itself shows among the options of a mount.
_OF_FUSE = frozenset(
    ("user_id", "group_id", "rootmode", "default_permissions", "allow_other", "blksize", "max_read")
)


def is_remount(given: Iterable[str]) -> bool:
    """Tell whether the option strings ask for a remount.  Raises OptionError."""
    return any(word.name == "remount" for text in given for word in words(text))


def remount(directory: str, given: Iterable[str]) -> None:
    """Change the flags of the mount on the absolute path `directory`.

    The flags of access times stay: the daemon keeps them on the layers.  Raises OptionError
    for what cannot be changed, MountError if no union is mounted there, and the OSError of
    mount(2).
    """
    resolved = os.fsencode(os.path.realpath(directory))
    found = next((m for m in reversed(read_mounts()) if m.mount_point == resolved), None)
    if found is None or not found.fs_type.startswith(b"fuse"):
        raise MountError(f"{directory} is not the mount point of a union; nothing is remounted")
    shown = (*found.options, *found.super_options)
    now = {word.name: word for text in shown for word in words(os.fsdecode(text))}
    flags = 0
    for text in given:
        for word in words(text):
            if word.name != "remount":
                _refuse_news(word, now)
                on, off = VFS_FLAGS.get(word.name, (0, 0))
                flags = flags & ~off | on
    mount(b"none", resolved, b"none", flags | MS_REMOUNT, b"")


def _refuse_news(word: Word, now: dict[str, Word]) -> None:
    """Refuse a word that is no flag and that the mount does not have already."""
    name = word.name
    if name in VFS_FLAGS or name in _OF_FUSE or is_ignored(name) or now.get(name) == word:
        return
    raise OptionError(
        f"option '{name}' cannot be changed by a remount: a union keeps its layers and options "
        "while it is mounted; unmount it and mount it again"
    )
