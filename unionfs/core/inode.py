"""Inodes of the union: files and directories, the place of their real file, and their names.

A `File` is everything but a directory.  Its real file has one place, the name `rname` in
the directory `real`, which is valid as long as `unlinked` is False.  A file in the upper
may have further names, `aliases`; when its place is removed, one of them becomes its
place.  `rino` is the inode number of the real file: an operation by name compares
it to notice that another file has that name now.

A `Dir` remembers its names in `loaded`: `upper` and `whiteouts` for the upper
directory, `lower` for all lower directories merged.  Lowers do not change, and only
this process changes the upper, so a name that is in neither is absent without a system
call.

Threading: `Dir.lock` guards the directory's names (`kids`, `loaded`,
and the `parent`, `name`, `real` of the files in it).  `unionfs.core` has the lock order.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator

from unionfs.core.layer import Fd, Layer, RealDir
from unionfs.core.whiteout import INO_SHIFT
from unionfs.errors import fs_error
from unionfs.light_enum import Enum, auto
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.types import NodeId, StIno

if TYPE_CHECKING:
    from typing import Final

    from unionfs.core.file import Handle
    from unionfs.core.readdir import Listing

# Positions in the values of `Loaded.lower`: `st_ino << LOW_SHIFT | position << 4 | d_type`.
POSITION_BITS = 12
LOW_SHIFT = 4 + POSITION_BITS
POSITION_MASK = (1 << POSITION_BITS) - 1

_INO_BITS = 56
_INO_MASK = (1 << _INO_BITS) - 1

# The numbers of an inode that is not in the table yet.
_NO_NODEID = NodeId(0)
_NO_ST_INO = StIno(0)

Key = tuple[int, int]  # st_dev, st_ino

# The size in bytes below which a lower file is not passed through to, see `UnionFs.backing`:
# sharing its pages with other mounts of the layer saves less than it costs.  In a Debian
# root filesystem these are three of four files, and one of seven pages.
SMALL = 16 << 10


class Lost(NamedTuple):
    """How many links of a lower file were removed, and the time of the last removal, in ns."""

    links: int
    ctime_ns: int


NOTHING_LOST = Lost(0, 0)


class Data(NamedTuple):
    """Where the data of a metacopy is: a file beneath `real`, and its 512-byte blocks.

    These are -1 if they are not known, or may change.
    """

    real: RealDir
    name: bytes
    blocks: int = -1


class Node:
    """What files and directories have in common.

    `last_stat` has the attributes of an inode that has lost its last name and its fd:
    a process may still refer to it without having it open.
    """

    __slots__ = ("last_stat", "name", "nlookup", "nodeid", "parent", "st_ino")

    nodeid: NodeId
    st_ino: StIno
    nlookup: int
    parent: Dir
    name: bytes
    last_stat: os.stat_result | None


class File(Node):
    """An inode that is not a directory.

    `data` is the place of the data of a metacopy.  `nlink_delta` is what to add to the
    link count of the upper inode: it has a link in the index, and not all names of the
    union.  `lost` are the links of a lower file that are whited out.
    `changed` counts copy_ups, so that an open handle notices one.
    `orphan` is an fd that keeps an upper file that lost its last known name.  `found_size` is
    the size in bytes of a file that was found in a lower and never changed since, and -1
    for all others.
    `bare` says that the file has no capability: before each write and chown the kernel
    asks for that.  `listed` are the names of its attributes, as they were found in a lower;
    they are right as long as `found_size` is not -1.  `opened` counts the open handles;
    `handle` is the latest of them, None if that is closed.
    """

    __slots__ = (
        "aliases",
        "bare",
        "changed",
        "data",
        "found_size",
        "handle",
        "key",
        "kind",
        "listed",
        "lost",
        "nlink_delta",
        "opened",
        "orphan",
        "real",
        "rino",
        "rname",
        "unlinked",
    )

    def __init__(self, parent: Dir, name: bytes, real: RealDir, st: os.stat_result) -> None:
        self.parent = parent
        self.name = name
        self.nlookup = 0
        self.nodeid = _NO_NODEID
        self.st_ino = _NO_ST_INO
        self.last_stat = None
        self.opened = 0
        self.handle: Handle | None = None
        self.real = real
        self.rname = name
        self.rino = st.st_ino
        self.kind = stat.S_IFMT(st.st_mode)
        self.key: Key | None = None
        self.aliases: list[tuple[Dir, bytes]] | None = None
        self.data: Data | None = None
        self.nlink_delta = 0
        self.lost = NOTHING_LOST
        self.changed = 0
        self.orphan: Fd | None = None
        self.unlinked = False
        self.found_size = -1
        self.bare = False
        self.listed: tuple[str, ...] | None = None

    def names(self) -> list[tuple[Dir, bytes]]:
        """Return the names that have been looked up, the one that is its place first."""
        return [(self.parent, self.name), *(self.aliases or ())]

    def data_place(self) -> tuple[RealDir, bytes]:
        """Return the directory and the name of the real file that has the data."""
        data = self.data
        return (self.real, self.rname) if data is None else (data.real, data.name)

    def is_small(self) -> bool:
        """Tell whether this is a small file of a lower that was never changed."""
        return 0 <= self.found_size < SMALL


class Found(Enum):
    """Where a directory has a name, and so where to look and how to make or remove it."""

    ABSENT = auto()  # nothing to look at; make it in the upper directory itself
    WHITED_OUT = auto()  # nothing to look at; make it in place of the whiteout
    UPPER = auto()  # look in the upper; remove it and nothing shows
    UPPER_OVER_LOWER = auto()  # look in the upper; replace it by a whiteout
    LOWER = auto()  # look in the lowers; copy it up to change it, add a whiteout to remove it


# An attribute of an enum takes longer to read, and every lookup returns one of these.
ABSENT: Final = Found.ABSENT
WHITED_OUT: Final = Found.WHITED_OUT
UPPER: Final = Found.UPPER
UPPER_OVER_LOWER: Final = Found.UPPER_OVER_LOWER
LOWER: Final = Found.LOWER


class Loaded:
    """The names in a directory, read from its real directories.

    `upper` and `lower` map a name to the integer of `scan`; those of `lower` also
    have the position in `Dir.lowers` of the directory that provides the name.
    `lower_dirs` has all positions of a name that is a directory in several of them.
    `whiteouts` are the names that the upper whites out.
    """

    __slots__ = ("lower", "lower_dirs", "upper", "whiteouts")

    def __init__(
        self,
        upper: dict[bytes, int],
        whiteouts: set[bytes],
        lower: dict[bytes, int],
        lower_dirs: dict[bytes, tuple[int, ...]],
    ) -> None:
        self.upper = upper
        self.whiteouts = whiteouts
        self.lower = lower
        self.lower_dirs = lower_dirs

    def find(self, name: bytes) -> Found:
        """Return where `name` is."""
        if name in self.upper:
            return UPPER_OVER_LOWER if name in self.lower else UPPER
        if name in self.whiteouts:
            return WHITED_OUT
        return LOWER if name in self.lower else ABSENT

    def holds(self, name: bytes) -> bool:
        """Tell whether `name` is visible."""
        return name in self.upper or (name in self.lower and name not in self.whiteouts)

    def is_empty(self) -> bool:
        """Tell whether nothing is visible."""
        return not self.upper and self.lower.keys() <= self.whiteouts

    def positions(self, name: bytes) -> tuple[int, ...]:
        """Return the positions in `Dir.lowers` that provide `name`, empty if no lower has it.

        A file has one, a directory has those of all directories that are merged.
        """
        packed = self.lower.get(name)
        if packed is None:
            return ()
        return self.lower_dirs.get(name) or (lower_position(packed),)

    def names(self) -> list[bytes]:
        """Return the visible names, those of lowers first."""
        if not self.upper and not self.whiteouts:
            return list(self.lower)
        return [name for name, _, _ in self.visible()]

    def visible(self) -> Iterator[tuple[bytes, int, bool]]:
        """Yield each visible name, its integer, and whether the upper has it; lowers first."""
        upper, whiteouts = self.upper, self.whiteouts
        for name, packed in self.lower.items():
            if name not in upper and name not in whiteouts:
                yield name, packed, False
        for name, packed in upper.items():
            yield name, packed, True


def empty() -> Loaded:
    """Return the names in a new or a removed directory: none."""
    return Loaded({}, set(), {}, {})


def lower_position(packed: int) -> int:
    """Return the position in `Dir.lowers` from an integer of `Loaded.lower`."""
    return packed >> INO_SHIFT & POSITION_MASK


def lower_ino(packed: int) -> int:
    """Return the real inode number from an integer of `Loaded.lower`."""
    return packed >> LOW_SHIFT


class Dir(Node):
    """A directory, merged or not.

    `lowers` are the real directories beneath the upper one, topmost first.  As long as
    `resolved` is False they are candidates: their marks have not been read.
    `loaded` is None until the first lookup in the directory.
    `stamp` has the times of the real directories at that moment, for mounts whose
    layers may be changed from outside.  `kept_ctime` is set while only copy_ups have
    changed the real directory: its ctime, and the ctime to show for it, both in ns.
    `unmarked` says that the upper directory is known to be neither immutable nor append-only,
    `closed` that a chmod has taken the right to search it from its owner.
    """

    __slots__ = (
        "closed",
        "dead",
        "default_acl",
        "impure",
        "kept_ctime",
        "kids",
        "listing",
        "loaded",
        "lock",
        "lowers",
        "merged",
        "redirect",
        "resolved",
        "stamp",
        "stamped_at",
        "unmarked",
        "upper",
    )

    def __init__(
        self, parent: Dir | None, name: bytes, upper: RealDir | None, lowers: tuple[RealDir, ...]
    ) -> None:
        self.parent = self if parent is None else parent
        self.name = name
        self.nlookup = 0
        self.nodeid = _NO_NODEID
        self.st_ino = _NO_ST_INO
        self.last_stat = None
        self.upper = upper
        self.lowers = lowers
        self.resolved = not lowers
        self.merged = len(lowers) + (upper is not None) > 1
        self.redirect: bytes | None = None
        self.kids: dict[bytes, Node] = {}
        self.loaded: Loaded | None = None
        self.default_acl: bool | None = None
        self.kept_ctime: tuple[int, int] | None = None
        self.impure = False
        self.unmarked = False
        self.closed = False
        self.dead = False
        self.listing: Listing | None = None
        self.stamp: tuple[Key, ...] = ()
        self.stamped_at = 0
        self.lock = threading.Lock()

    def require_upper(self) -> RealDir:
        """Return the upper directory; ENOENT if there is none, since it was removed."""
        if self.upper is None:
            raise fs_error(errno.ENOENT)
        return self.upper

    def top(self) -> RealDir:
        """Return the real directory whose attributes this one shows."""
        return self.upper if self.upper is not None else self.lowers[0]

    def keep_ctime(self, before: os.stat_result, after: os.stat_result) -> None:
        """Show the ctime of `before` as long as the stat of the real directory is `after`.

        A copy_up changes the real directory, but not what the union shows of it.
        """
        kept, shown = self.kept_ctime, before.st_ctime_ns
        if kept is not None and kept[0] == shown:
            shown = kept[1]
        self.kept_ctime = after.st_ctime_ns, shown

    def require_loaded(self) -> Loaded:
        """Return the names, which the caller has read and holds `lock` since then.

        ESTALE if an operation failed meanwhile and they could not be read again.
        """
        if self.loaded is None:
            raise fs_error(errno.ESTALE)
        return self.loaded

    def note_upper(self, name: bytes, packed: int) -> None:
        """Note that the upper has `name` now."""
        if self.loaded is not None:
            self.loaded.upper[name] = packed

    def note_absent(self, name: bytes) -> None:
        """Note that the upper no longer has `name`."""
        if self.loaded is not None:
            self.loaded.upper.pop(name, None)

    def note_whiteout(self, name: bytes) -> None:
        """Note that the upper has a whiteout of `name` now."""
        if self.loaded is not None:
            self.loaded.upper.pop(name, None)
            self.loaded.whiteouts.add(name)


def in_upper(node: File) -> bool:
    """Tell whether the metadata of `node` lies in the upper."""
    return node.real.layer.is_upper


def layer_of(node: Node) -> Layer:
    """Return the layer whose attributes `node` shows."""
    if isinstance(node, Dir):
        return node.top().layer
    assert isinstance(node, File)
    return node.real.layer


def union_ino(layer: Layer, ino: int) -> StIno:
    """Return the st_ino to show for inode `ino` of `layer`.

    It is the same in every mount of the same layers.  As with overlayfs's xino, the high
    bits have the number of the filesystem in the union, the low bits `ino`.
    """
    if layer.fsid:
        ino = layer.fsid << _INO_BITS | (ino & _INO_MASK)
    # Not `StIno(ino)`: a call for each entry of a listing takes time.
    return ino  # type: ignore[return-value]
