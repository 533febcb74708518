"""Attributes as the kernel wants them: packed straight into the reply."""

from __future__ import annotations

from stat import ST_ATIME, ST_CTIME, ST_MTIME

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
        self.valid = valid = int(seconds)
        self.valid_ns = valid_ns = int((seconds - valid) * NS)
        self._entry_valid = abi.ENTRY_VALID.pack(0, valid, valid, valid_ns, valid_ns)
        self._attr_head = abi.ATTR_HEAD.pack(valid, valid_ns, 0)
        absent = abi.ENTRY_VALID.pack(0, valid, 0, valid_ns, 0)
        self._absent = abi.ENTRY_HEAD.pack(0, absent) + bytes(abi.ATTR.size)

    def put_entry(self, attr: Attr, out: Room, at: int) -> None:
        abi.ENTRY_HEAD.pack_into(out, at, attr.nodeid, self._entry_valid)
        _put(attr, out, at + abi.ENTRY_HEAD.size)

    def entry(self, attr: Attr, request: Request) -> int:
        self.put_entry(attr, request.out, request.body)
        return abi.ENTRY_SIZE

    def absent(self, request: Request) -> int:
        """Answer that a name is absent, which the kernel may remember."""
        return request.answer(self._absent)

    def attributes(self, attr: Attr, request: Request) -> int:
        size = request.answer(self._attr_head)
        _put(attr, request.out, request.body + size)
        return abi.ATTR_SIZE


def _put(attr: Attr, out: Room, at: int) -> None:
    st = attr.st
    abi.ATTR.pack_into(
        out,
        at,
        attr.st_ino,
        st.st_size,
        attr.st_blocks,
        st[ST_ATIME],
        st[ST_MTIME],
        st[ST_CTIME],
        st.st_atime_ns % NS,
        st.st_mtime_ns % NS,
        st.st_ctime_ns % NS,
        st.st_mode,
        attr.st_nlink,
        attr.st_uid,
        attr.st_gid,
        st.st_rdev & 0xFFFFFFFF,
        st.st_blksize,
        0,
    )
