"""Attributes as the kernel wants them: packed straight into the reply."""

from __future__ import annotations

from unionfs.types import Attr
from unionfs.wire import abi
from unionfs.wire.request import Request, Room

FOREVER = 1 << 31  # seconds
NS = 1_000_000_000


class Encoder:
    """Packs what the union says of an inode, with the time it stays valid.

    `valid` and `valid_ns` are that time; FOREVER where the mount owns its layers.
    """

    def __init__(self, timeout: float | None) -> None:
        """`timeout` is in seconds, None for good."""
        seconds = FOREVER if timeout is None else timeout
        self.valid = int(seconds)
        self.valid_ns = int((seconds - int(seconds)) * NS)

    def put_entry(self, attr: Attr, out: Room, at: int) -> None:
        st = attr.st
        atime, mtime, ctime = st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns
        valid, valid_ns = self.valid, self.valid_ns
        abi.ENTRY_OUT.pack_into(
            out,
            at,
            attr.nodeid,
            0,
            valid,
            valid,
            valid_ns,
            valid_ns,
            attr.st_ino,
            st.st_size,
            attr.st_blocks,
            atime // NS,
            mtime // NS,
            ctime // NS,
            atime % NS,
            mtime % NS,
            ctime % NS,
            st.st_mode,
            attr.st_nlink,
            attr.st_uid,
            attr.st_gid,
            st.st_rdev & 0xFFFFFFFF,
            st.st_blksize,
            0,
        )

    def put_attr(self, attr: Attr, out: Room, at: int) -> int:
        st = attr.st
        atime, mtime, ctime = st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns
        abi.ATTR_OUT.pack_into(
            out,
            at,
            self.valid,
            self.valid_ns,
            0,
            attr.st_ino,
            st.st_size,
            attr.st_blocks,
            atime // NS,
            mtime // NS,
            ctime // NS,
            atime % NS,
            mtime % NS,
            ctime % NS,
            st.st_mode,
            attr.st_nlink,
            attr.st_uid,
            attr.st_gid,
            st.st_rdev & 0xFFFFFFFF,
            st.st_blksize,
            0,
        )
        return abi.ATTR_OUT.size

    def entry(self, attr: Attr, request: Request) -> int:
        self.put_entry(attr, request.out, request.body)
        return abi.ENTRY_OUT.size

    def absent(self, request: Request) -> int:
        """Answer that a name is absent, which the kernel may remember."""
        out, at = request.out, request.body
        abi.ENTRY_OUT.pack_into(out, at, 0, 0, self.valid, 0, self.valid_ns, 0, *([0] * 16))
        return abi.ENTRY_OUT.size
