"""An inode of the least union in Python."""

from __future__ import annotations

import os

from benchmarks.floor_python.listings import (
    LOOK,
    NLINK_AT,
    UNSETTLED,
    VALID,
    Listed,
    put_word,
)
from unionfs.wire import abi

NS = 1_000_000_000

# What a handle has of these: whether it is passed through, and whether it may be mapped to write.
IS_PASSED, MAY_BE_MAPPED = 1, 2

_put_entry = abi.ENTRY_OUT.pack_into


class Node(Listed):
    """An inode, which is `name` in the open directory `at`, in the upper if it is `in_upper`.

    A file that is open has an `fd`, which the kernel knows as `backing` if it reads and writes by
    itself; `passed` counts the handles of that kind, `cached` the others, and `mapped` those of
    either that change attributes without a request.  `others` are further names, each with its
    directory.  One that is `gone` has no name, and an fd until it is forgotten.

    The real directory of a directory is open as `fd` once it was read, and as `upper` if it is in
    the upper.  `lowers` are those of its parent in which lowers have it too.  `below` are the names
    that lowers have, of which `whiteouts`, and names of nobody, are whited out in the upper.
    """

    __slots__ = (
        "at",
        "backing",
        "below",
        "cached",
        "fd",
        "given",
        "gone",
        "in_upper",
        "lowers",
        "mapped",
        "name",
        "others",
        "passed",
        "unread",
        "upper",
        "whiteouts",
    )

    names: dict[bytes, Node]
    below: dict[bytes, Node]
    whiteouts: set[bytes]
    lowers: list[int]
    parent: Node
    others: list[tuple[Node, bytes]]
    backing: int

    def __init__(self, number: int, kind: int, at: int, name: bytes) -> None:
        super().__init__(number, kind)
        self.at, self.name = at, name
        self.in_upper = self.gone = False
        self.stale, self.fd = LOOK, -1
        self.passed = self.mapped = 0
        if self.is_dir:
            self.unread, self.upper = True, -1
            self.lowers = []
        else:
            self.cached = 0
            self.given = False
            self.others = []

    def refresh(self) -> None:
        # At first: a change meanwhile makes it stale again.
        self.stale = LOOK if self.passed else 0
        if self.fd >= 0:
            st = os.fstat(self.fd)
        elif self.gone:
            put_word(self.entry, NLINK_AT, 0)
            return
        else:
            st = os.stat(self.name, dir_fd=self.at, follow_symlinks=False)
        mode, _, _, nlink, uid, gid, size, atime, mtime, ctime = st
        _put_entry(
            self.entry,
            0,
            self.number,
            UNSETTLED if self.mapped else VALID,
            self.number,
            size,
            st.st_blocks,
            atime,
            mtime,
            ctime,
            st.st_atime_ns % NS,
            st.st_mtime_ns % NS,
            st.st_ctime_ns % NS,
            mode,
            1 if self.is_dir else nlink,
            uid,
            gid,
            st.st_rdev & 0xFFFFFFFF,
            st.st_blksize,
            0,
        )
