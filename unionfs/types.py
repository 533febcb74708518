"""The values that cross the seam between the core and the transports.

Names are `bytes` (any but b"/" and b"\\0"), times are integers in ns, sizes
are bytes and `st_blocks` counts 512-byte blocks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from unionfs.light_enum import Enum, auto
from unionfs.light_typing import NamedTuple, NewType

Fh = NewType("Fh", int)
"""The number of an open file or directory, never that of a file descriptor."""

NodeId = NewType("NodeId", int)
"""FUSE's number of an inode, which the kernel names it by until it forgets it."""

StIno = NewType("StIno", int)
"""The inode number that users of the mount see, never that of the real file in a layer."""

ROOT_NODEID = NodeId(1)

NS = 1_000_000_000
"""The nanoseconds of a second."""

FMODE_EXEC = 1 << 5
"""Among the flags of an open for execve(2).  Source: include/linux/fs.h."""

Buffer = bytes | bytearray | memoryview

# Those that a stat_result has by name only: from Python 3.13 on its constructor refuses
# the name of a field that its sequence has.
_STAT_NAMES = [
    name
    for name in dir(os.stat_result)
    if name.startswith("st_") and name not in os.stat_result.__match_args__
]


class Attr(NamedTuple):
    """The attributes of an inode of the union.

    `nodeid` is the kernel's number for the inode, until the kernel forgets it; `st_ino`
    is what users see, the same before and after copy_up and over a remount.  Mode,
    size, rdev and times are those of `st`, the `os.stat_result` of the real file; the
    other fields here replace those of `st`.
    """

    nodeid: NodeId
    st_ino: StIno
    st_nlink: int
    st_uid: int
    st_gid: int
    st_blocks: int
    st: os.stat_result


class Backing(NamedTuple):
    """The real file behind an open file, with what passthrough depends on.

    `fd` is valid until the open file is released.  `version` counts the copy-ups of
    the inode.  `may_change` says that the file can be written to: it is in the upper.
    `pristine` says that it is a lower file that was never written to through the union,
    `fixed` that it never will be.  `guarded` says that this process must see each write: it is
    an upper file that is append-only, or has suid or sgid, or may get them in an attribute.
    """

    fd: int
    version: int
    may_change: bool
    pristine: bool
    fixed: bool
    guarded: bool


class Renewed(NamedTuple):
    """The nodeid to which the names of a file lead now, and whether that is one name."""

    nodeid: NodeId
    had_one_name: bool


class LookedUp(Enum):
    """Which names of a directory are looked up when it is listed."""

    DIRECTORIES = auto()
    ALL_BUT_A_FILE = auto()
    """All but the first file."""
    EVERYTHING = auto()


class DirEntry(NamedTuple):
    """One name of a merged directory.

    `cookie` is the offset at which a listing continues after this entry; `d_type` is a
    DT_* value; `st_ino` is the one that stat(2) shows.
    """

    cookie: int
    name: bytes
    d_type: int
    st_ino: StIno


Listed = tuple[int, bytes, int, StIno, Attr | None]
"""The fields of a `DirEntry`, and the attributes if the name was looked up.

Without a class of its own, since to make an instance for each entry takes time.
"""


class SetAttr:
    """The attributes that one SETATTR changes; None leaves an attribute as it is.

    `times_now` says that both times are set to the present, as utimensat(2) without
    times does: more callers may do that than set times of their choice, and it is
    allowed for an append-only file.
    """

    __slots__ = ("atime_ns", "gid", "mode", "mtime_ns", "size", "times_now", "uid")

    def __init__(
        self,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        times_now: bool = False,
    ) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.atime_ns = atime_ns
        self.mtime_ns = mtime_ns
        self.times_now = times_now

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SetAttr) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        given = [(name, getattr(self, name)) for name in self.__slots__]
        words = (f"{name}={value}" for name, value in given if value is not None)
        return f"SetAttr({', '.join(words)})"

    def is_chown(self) -> bool:
        """Tell whether it is a chown(2), which takes suid and sgid from files.

        One that changes neither id comes as a change of nothing.
        """
        if self.uid is not None or self.gid is not None:
            return True
        return self.mode is None and self.mtime_ns is None and self.is_nothing()

    def is_nothing(self) -> bool:
        """Tell whether it changes no attribute, as chown(2) with -1 for both ids."""
        if self.times_now or self.atime_ns is not None or self.mtime_ns is not None:
            return False
        return self.mode is self.uid is self.gid is self.size is None

    def only_touches(self) -> bool:
        """Tell whether it sets both times to the present, and nothing else."""
        return self.times_now and self.mode is self.uid is self.gid is self.size is None


class Restored(NamedTuple):
    """The result of a restore: whether anything changed, and what the kernel should forget.

    `inodes` are the nodeids of which it should forget attributes and listings, `names` a
    directory's nodeid and a name in it.
    """

    changed: bool
    inodes: tuple[NodeId, ...]
    names: tuple[tuple[NodeId, bytes], ...]


class Frozen(NamedTuple):
    """The result of a freeze: how long requests had to wait, and what was copied.

    `copied` are the paths of the files that were open.
    """

    pause_ns: int
    copied: tuple[bytes, ...]
    copied_bytes: int


def changed_stat(st: os.stat_result, values: Mapping[int, int], **named: int) -> os.stat_result:
    """Return `st` with other `values` at stat's indices, such as ST_MODE, and of `named` fields.

    `named` can have what has no index: st_rdev, st_blocks, and times in ns.
    """
    attributes = {name: getattr(st, name) for name in _STAT_NAMES}
    if "st_ctime_ns" in named:
        attributes["st_ctime"] = named["st_ctime_ns"] / 1e9
    plain = list(st)
    for index, value in values.items():
        plain[index] = value
    return os.stat_result(plain, {**attributes, **named})
