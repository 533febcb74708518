"""What one union is made of: the settings the core works by.

Decided here and only here: the names, types and defaults of the settings.
`mount_tools.mount.options` has the grammar of `-o`.  `unionfs.core.setup` checks, when
the union is opened, that its directories can be used together.

Source: overlayfs.rst; fuse-overlayfs(1) for the id mappings.
"""

from __future__ import annotations

from unionfs.light_enum import Enum
from unionfs.light_typing import NamedTuple

# Kernel overlayfs allows 500 (fs/overlayfs/params.h OVL_MAX_STACK), so an image may have
# 500 layers.  A container adds its frozen uppers and a layer of mount points.
MAX_LOWERS = 512


class WhiteoutForm(Enum):
    """How a deletion is written into the upper; all forms are always read."""

    AUTO = "auto"  # CHAR where mknod allows it, else XATTR
    CHAR = "char"  # character device 0:0
    XATTR = "xattr"  # empty file with overlay.whiteout, its directory opaque=x
    AUFS = "aufs"  # empty file .wh.NAME


class Atime(Enum):
    """When reading a file of the upper changes its atime; see mount(8)."""

    NOATIME = "noatime"  # never
    RELATIME = "relatime"  # once after each change, and once a day
    STRICTATIME = "strictatime"  # always


class RedirectDir(Enum):
    """What renaming a lower or merged directory does, and whether redirects are followed."""

    ON = "on"  # renames write redirects
    FOLLOW = "follow"  # renames give EXDEV, redirects found are followed
    NOFOLLOW = "nofollow"  # renames give EXDEV, redirects found are not followed
    OFF = "off"  # the same as FOLLOW, as with the kernel module's default settings


class OverrideStat(Enum):
    """Whether owners and modes are in an attribute of each file, and in which."""

    NONE = "0"
    PRIVILEGED = "1"  # security.fuseoverlayfs.override_stat, which only root can set
    CONTAINERS = "2"  # user.containers.override_stat


class IdRange(NamedTuple):
    """The `length` ids from `stored` on disk are shown as the ids from `shown` on."""

    stored: int
    shown: int
    length: int


class UnionConfig(NamedTuple):
    """The settings of one union.

    Paths are absolute, or relative to the working directory at the time of `open_union`.
    `lowers` has the topmost first.  `upper` and `work` are given together or not at
    all; without them, or with `read_only`, the union is read-only.
    `timeout` is how long, in seconds, the kernel and the union may remember
    names and attributes; None, the default, means for ever: nothing but the mount
    changes the layers.  `open_dirs` limits the directories that are kept open; None
    means 16384.  It is never more than half of the files that this process may have open.
    `atime` None means as on the mount that the upper lies on.  With `overflow_ids` an id
    outside `uid_map` or `gid_map` is stored as the overflow id; without, it is refused with
    EOVERFLOW.
    """

    lowers: tuple[bytes, ...]
    data: tuple[bytes, ...] = ()  # data-only layers, behind `::`
    upper: bytes | None = None
    work: bytes | None = None
    read_only: bool = False
    userxattr: bool | None = None  # None: only if trusted.* cannot be written
    whiteout: WhiteoutForm = WhiteoutForm.AUTO
    redirect_dir: RedirectDir = RedirectDir.ON
    metacopy: bool = False
    index: bool = True  # type: ignore[assignment]  # in place of tuple.index()
    volatile: bool = False
    timeout: float | None = None
    uid_map: tuple[IdRange, ...] = ()
    gid_map: tuple[IdRange, ...] = ()
    squash_uid: int | None = None
    squash_gid: int | None = None
    overflow_ids: bool = False
    override: OverrideStat = OverrideStat.NONE
    open_dirs: int | None = None
    atime: Atime | None = None
