"""What one union is made of: the settings the core works by.

Decided here and only here: the names, types and defaults of the settings.
The grammar of `-o` belongs to `mount_tools.mount.options`; whether the directories
suit each other is checked by `unionfs.core.setup` when the union is opened.

Source: overlayfs.rst; fuse-overlayfs(1) for the id mappings.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

# Kernel overlayfs takes 500 (fs/overlayfs/params.h OVL_MAX_STACK), and so many an image may
# have; above these, a container can have its frozen uppers and a layer of mount points.
MAX_LOWERS = 512


class WhiteoutForm(enum.Enum):
    """How a deletion is written into the upper; all forms are always read."""

    AUTO = "auto"  # CHAR where mknod allows it, else XATTR
    CHAR = "char"  # character device 0:0
    XATTR = "xattr"  # empty file with overlay.whiteout, its directory opaque=x
    AUFS = "aufs"  # empty file .wh.NAME


class Atime(enum.Enum):
    """When reading a file of the upper changes its atime; see mount(8)."""

    NOATIME = "noatime"  # never
    RELATIME = "relatime"  # once after each change, and once a day
    STRICTATIME = "strictatime"  # always


class RedirectDir(enum.Enum):
    """What renaming a lower or merged directory does, and whether redirects are followed."""

    ON = "on"  # renames write redirects
    FOLLOW = "follow"  # renames give EXDEV, redirects found are followed
    NOFOLLOW = "nofollow"  # renames give EXDEV, redirects found are not followed
    OFF = "off"  # as FOLLOW, which is what the kernel's module default makes of it


class IdRange(NamedTuple):
    """`length` ids from `stored` on disk are presented as those from `shown` on."""

    stored: int
    shown: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnionConfig:
    """One union, as asked for.

    Paths are absolute or relative to the working directory at `open` time;
    `lowers` has the topmost first.  `upper` and `work` come together or not at
    all; without them the union is read-only, as with `read_only`.
    `timeout` is how long, in seconds, the kernel and the union may remember
    names and attributes; None, the default, says the mount owns its layers
    and may remember for good.  `open_dirs` bounds the directories kept open; None
    is half of the files that this process may have open.  `atime` None is as the mount
    that the upper lies on has it.
    """

    lowers: tuple[bytes, ...]
    data: tuple[bytes, ...] = ()  # data-only layers, behind `::`
    upper: bytes | None = None
    work: bytes | None = None
    read_only: bool = False
    userxattr: bool | None = None  # None: where trusted.* cannot be written
    whiteout: WhiteoutForm = WhiteoutForm.AUTO
    redirect_dir: RedirectDir = RedirectDir.ON
    metacopy: bool = False
    index: bool = True
    volatile: bool = False
    timeout: float | None = None
    uid_map: tuple[IdRange, ...] = ()
    gid_map: tuple[IdRange, ...] = ()
    squash_uid: int | None = None
    squash_gid: int | None = None
    open_dirs: int | None = None
    atime: Atime | None = None
