"""Where a union may differ from a plain directory, each with its reason.

The whole list: what is not here and differs is a bug.  The machines import
these names; nothing else in them makes an exception.
"""

from __future__ import annotations

import enum


class Subject(enum.Enum):
    """What is held against the model."""

    KERNEL = "kernel overlayfs"
    MOUNT = "PyUnion, mounted"
    CORE = "PyUnion's core, in process"


class Deviation(enum.Enum):
    """A difference that is allowed; the value is the reason."""

    NO_RENAME_WHITEOUT = (
        "RENAME_WHITEOUT always fails with EINVAL or with what a plain rename would fail with: a "
        "whiteout made by a user would be a deletion mark (dir.c:ovl_rename() refuses it too)"
    )
    HIDDEN_LINKS_COUNT = (
        "st_nlink of a lower file counts its names that another layer hides, as overlayfs's does: "
        "so the start states have no such files, and what once had several names may count more"
    )
    ROTATION_BREAKS_LINKS = (
        "an upper that becomes a lower leaves the index behind, so names of a copied-up file that "
        "are in lowers only would show the old data; so every hard link is made anew before a "
        'rotation (overlayfs.rst "Index": an upper without its index is only half of one)'
    )
    USER_MARKS_ON_FILES_ONLY = (
        "user.* has no place on links, fifos and devices (xattr(7)), so with marks in "
        "user.overlay.* nothing tells after a remount which lower inode one was copied from"
    )
    STAGED_WHITEOUT_STAYS = (
        "kernel overlayfs leaves the whiteout it links others to in workdir/work; the next mount "
        "sweeps it"
    )
    D_INO_OF_A_LINK = (
        "kernel overlayfs lists a new link to a copied-up file, in a directory that is only in the "
        "upper, with the upper's own inode number (ovl_link() does not mark the directory impure)"
    )
    FAILED_RENAME_SETS_MTIME = (
        "kernel overlayfs renames a lower directory with RENAME_WHITEOUT; where the target is not "
        "empty, ext4 refuses that but has given the old parent a new mtime (measured on ext4 alone)"
    )
    WRITE_DROPS_SUID = (
        "root's write takes suid and sgid from a regular file: libfuse does not say who writes, "
        "and by passthrough the kernel does not write with the rights of the writer"
    )
    NEW_INO_BY_ROTATION = (
        "st_ino may change when an upper becomes a lower or another implementation mounts the "
        "layers: it is another stack"
    )


_KERNEL_ONLY = frozenset(
    (
        Deviation.STAGED_WHITEOUT_STAYS,
        Deviation.D_INO_OF_A_LINK,
        Deviation.FAILED_RENAME_SETS_MTIME,
    )
)

ALLOWED = {
    Subject.KERNEL: frozenset(Deviation) - {Deviation.WRITE_DROPS_SUID},
    Subject.MOUNT: frozenset(Deviation) - _KERNEL_ONLY,
    Subject.CORE: frozenset(Deviation) - _KERNEL_ONLY - {Deviation.WRITE_DROPS_SUID},
}
