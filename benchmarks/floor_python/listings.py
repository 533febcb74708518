"""The names and attributes of a directory as both floors in Python keep and list them.

An inode has its `entry` packed, as a LOOKUP is answered; a listing is a join of such entries.
What to list with attributes is decided as in `unionfs/wire/dirs.py`.
"""

from __future__ import annotations

import os
import struct
from itertools import islice
from typing import Generic, TypeVar

from unionfs.wire import abi

FOREVER = 1 << 31  # seconds
VALID = abi.ENTRY_VALID.pack(0, FOREVER, FOREVER, 0, 0)
UNSETTLED = abi.ENTRY_VALID.pack(0, FOREVER, 0, 0, 0)  # the name, not the attributes
NEGATIVE = abi.ENTRY_HEAD.pack(0, VALID) + bytes(abi.ATTR.size)
NO_ENTRY = bytes(abi.ENTRY_SIZE)
ROOT = 1
LOOK = 1  # of `Listed.stale`
DT_DIR, DT_REG = 4, 8

# What to list with attributes, and for how long; see unionfs/wire/dirs.py.
DIRECTORIES, ALL_BUT_A_FILE, EVERYTHING = range(3)
TRIAL, WATCHED = 32, 1024  # directories
AT_FIRST, PATIENCE = 8 << 10, 4 << 20  # bytes
_DOTS = 2
LEAST_LISTED = abi.DIRENTPLUS_SIZE + 8  # bytes of a name
_MOST_GIVEN = 128 << 10  # bytes of a file that is given to the kernel as a whole

# Where the fields of ATTR are in an entry.
_ATTR = abi.ENTRY_HEAD.size
SIZE_AT = _ATTR + 8
ATIME_AT, MTIME_AT, CTIME_AT = _ATTR + 24, _ATTR + 32, _ATTR + 40
ATIME_NS_AT, MTIME_NS_AT, CTIME_NS_AT = _ATTR + 48, _ATTR + 52, _ATTR + 56
MODE_AT, NLINK_AT, UID_AT, GID_AT = _ATTR + 60, _ATTR + 64, _ATTR + 68, _ATTR + 72
put_word = struct.Struct("=I").pack_into
put_long = struct.Struct("=q").pack_into
get_word = struct.Struct("=I").unpack_from
get_long = struct.Struct("=q").unpack_from
put_words = struct.Struct("=II").pack_into
put_longs = struct.Struct("=qq").pack_into

OPENED = abi.OPEN_OUT.pack(0, abi.FOPEN_NOFLUSH | abi.FOPEN_KEEP_CACHE, 0)
PASSED = abi.FOPEN_NOFLUSH | abi.FOPEN_PASSTHROUGH


class Listed:
    """An inode with its `number` and, as in a listing, its `kind`.

    `entry` is the reply to its LOOKUP, of 128 bytes.  `stale` is 0 if that holds; else
    `refresh` has to be called.  Names end in a NUL byte, as in requests.
    """

    __slots__ = (
        "bare",
        "bare_listing",
        "entry",
        "is_dir",
        "kind",
        "listing",
        "names",
        "number",
        "parent",
        "stale",
        "tails",
    )

    parent: Listed
    tails: dict[bytes, bytes]  # of the names that were listed: what follows the entry
    listing: list[bytes | bytearray]  # with all entries; empty if it has to be made anew
    bare_listing: list[bytes | bytearray]  # with those of directories alone
    bare: int  # when it was listed so

    def __init__(self, number: int, kind: int) -> None:
        self.number, self.kind = number, kind
        self.entry = bytearray(abi.ENTRY_SIZE)
        self.stale = 0
        self.is_dir = kind == DT_DIR
        if self.is_dir:
            self.tails, self.bare = {}, 0
            self.listing, self.bare_listing = [], []

    def refresh(self) -> None:
        """Bring the entry up to date."""
        raise NotImplementedError

    def size(self) -> int:
        """Return the size that the entry says."""
        size: int = get_long(self.entry, SIZE_AT)[0]
        return size


N = TypeVar("N", bound=Listed)


class Listings(Generic[N]):
    """All inodes by number, and what the kernel has to know to list and read them."""

    def __init__(self) -> None:
        self.device = -1  # /dev/fuse
        self.nodes: dict[int, N] = {}
        # Whether programs want the attributes of the files that they list.
        self.wanted, self.seen = True, False
        self.listed = self.last_bare = 0
        self.left = AT_FIRST

    def names(self, directory: N) -> dict[bytes, N]:
        """Return the inode of each name in a directory."""
        raise NotImplementedError

    def content(self, node: N) -> int:
        """Return an fd to read, or write, an open file by; negative for an empty one."""
        raise NotImplementedError

    def give(self, node: N, fd: int) -> None:
        """Give the kernel the content `fd` of a file, if it is small, which saves the READ."""
        size = node.size()
        if not 0 < size <= _MOST_GIVEN:
            return
        data = os.pread(fd, size, 0)
        body = abi.NOTIFY_STORE_OUT.pack(node.number, 0, len(data))
        size = abi.OUT_HEADER.size + len(body) + len(data)
        head = abi.OUT_HEADER.pack(size, abi.NOTIFY_STORE, 0)
        try:
            os.writev(self.device, [head, body, data])
        except OSError:
            return  # best effort: a READ will come

    # -- listings --

    def what_to_list(self, directory: N, offset: int) -> int:
        """Return what to list with attributes in a directory, as `unionfs.wire.dirs` decides it."""
        if offset:
            return EVERYTHING if self.wanted else DIRECTORIES
        what = DIRECTORIES
        if self.wanted:
            self.listed += 1
            if self.seen and self.listed % TRIAL:
                directory.bare = 0
                return EVERYTHING
            what = ALL_BUT_A_FILE
        self._watch(directory)
        return what

    def _watch(self, directory: N) -> None:
        self.last_bare += 1
        directory.bare = self.last_bare

    def was_listed(self, directory: N, size: int) -> None:
        """Note that `size` bytes of a listing have attributes."""
        self.left -= size
        if self.left < 0:
            self.wanted = False
            self._watch(directory)

    def looked_up(self, parent: N, node: N) -> None:
        """Note a lookup in a directory that was listed without attributes of all files."""
        if parent.bare > self.last_bare - WATCHED and not node.is_dir:
            parent.bare = self.listed = 0
            self.wanted = self.seen = True
            self.left = PATIENCE

    def listing(self, directory: N, what: int, most: int | None) -> list[bytes | bytearray]:
        """Return the entry and what follows it of each name, in turn, as READDIRPLUS has them.

        What is not to be listed with attributes has no entry.  The first `most` are up to date.
        """
        listing = directory.listing or self._make_listings(directory)
        first = -1
        for at, node in enumerate(islice(self.names(directory).values(), most), _DOTS):
            if not node.is_dir:
                if what == DIRECTORIES:
                    continue
                if first < 0:
                    first = 2 * at
                    if what == ALL_BUT_A_FILE:
                        continue
            if node.stale:
                node.refresh()
        if what == DIRECTORIES:
            return directory.bare_listing
        if what == EVERYTHING or first < 0:
            return listing
        return [*listing[:first], NO_ENTRY, *listing[first + 1 :]]

    def _make_listings(self, directory: N) -> list[bytes | bytearray]:
        whole: list[bytes | bytearray] = []
        bare: list[bytes | bytearray] = []
        dots: tuple[tuple[bytes, Listed], ...] = ((b".", directory), (b"..", directory.parent))
        for cookie, (name, which) in enumerate(dots, 1):
            whole += (NO_ENTRY, _tail(name, which, cookie))
            bare += whole[-2:]
        cookie, tails = 2, directory.tails
        # A new name is the last one, and gets a cookie after all that are there.
        for name, node in self.names(directory).items():
            tail = tails.get(name)
            if tail is None:
                tail = tails[name] = _tail(name[:-1], node, cookie + 1)
            cookie = cookie_of(tail)
            whole += (node.entry, tail)
            bare += (node.entry if node.is_dir else NO_ENTRY, tail)
        # Two clients may list it at the same time: it is there only when it is whole.
        directory.bare_listing, directory.listing = bare, whole
        return whole


def cookie_of(tail: bytes) -> int:
    """Return the offset of a directory after the name with this `tail`."""
    cookie: int = abi.DIRENT.unpack_from(tail)[1]
    return cookie


def _tail(name: bytes, node: Listed, cookie: int) -> bytes:
    tail = abi.DIRENT.pack(node.number, cookie, len(name), node.kind) + name
    return tail.ljust(len(tail) + 7 & ~7, b"\0")


def drop_name(directory: N, name: bytes) -> None:
    """Note that a name is no longer in a directory, and its listing is another."""
    directory.listing = []
    directory.tails.pop(name, None)
