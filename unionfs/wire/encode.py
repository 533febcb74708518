"""Attributes in the kernel's layout, packed straight into the reply."""

from __future__ import annotations

from collections.abc import Callable
from stat import S_ISGID, S_ISUID
from struct import Struct

from unionfs.types import NS, Attr, Listed, NodeId
from unionfs.wire import abi
from unionfs.wire.request import Request, Room

FOREVER = 1 << 31  # seconds
_SUID_SGID = S_ISUID | S_ISGID
_pack_entry, _pack_attributes = abi.ENTRY_OUT.pack_into, abi.ATTR_OUT.pack_into
_ENTRY_SIZE = abi.ENTRY_SIZE
_HEAD = abi.DIRENTPLUS_SIZE
_pack_whole_entry = Struct(f"{_ENTRY_SIZE}s").pack_into

# What packs an entry of a listing, and one without attributes, by the 8 bytes that its name takes.
_Packs = tuple[Callable[..., None], Callable[..., None]]
_packs: dict[int, _Packs] = {}


def _make_packs(words: int) -> _Packs:
    """Return what packs entries whose name and the zeros behind it are so many times 8 bytes."""
    formats = abi.DIRENTPLUS.format, abi.DIRENTPLUS_BARE.format
    whole, bare = (Struct(f"{form}{words << 3}s").pack_into for form in formats)
    _packs[words] = packs = whole, bare
    return packs


class Encoder:
    """Packs the attributes of an inode, with the time for which they are valid.

    `valid` and `valid_ns` are that time; FOREVER if only the mount changes its layers.
    """

    def __init__(self, timeout: float | None) -> None:
        """`timeout` is in seconds, None for ever."""
        seconds = FOREVER if timeout is None else timeout
        self.valid = valid = int(seconds)
        self.valid_ns = valid_ns = int((seconds - valid) * NS)
        self._entry_valid = abi.ENTRY_VALID.pack(0, valid, valid, valid_ns, valid_ns)
        self._attr_head = abi.ATTR_HEAD.pack(valid, valid_ns, 0)
        self._entry_unsettled = abi.ENTRY_VALID.pack(0, valid, 0, valid_ns, 0)
        self._attr_unsettled = abi.ATTR_HEAD.pack(0, 0, 0)
        # By nodeid: the handles open for writing, and how many of them can be mapped.
        self._written: dict[NodeId, tuple[int, int]] = {}
        absent = abi.ENTRY_VALID.pack(0, valid, 0, valid_ns, 0)
        self._absent = abi.ENTRY_HEAD.pack(0, absent) + bytes(abi.ATTR.size)

    def add_writer(self, nodeid: NodeId, *, mapped: bool) -> None:
        """Note that `nodeid` was opened for writing; `mapped` says that it may be mapped too.

        The callers of this and of `remove_writer` hold one lock.
        """
        writers, mappers = self._written.get(nodeid, (0, 0))
        self._written[nodeid] = writers + 1, mappers + mapped

    def remove_writer(self, nodeid: NodeId, *, mapped: bool) -> None:
        """Note that a file noted by `add_writer` was closed."""
        writers, mappers = self._written.get(nodeid, (1, mapped))
        if writers > 1:
            self._written[nodeid] = writers - 1, mappers - mapped
        else:
            self._written.pop(nodeid, None)

    def _is_unsettled(self, attr: Attr) -> bool:
        """Tell whether the attributes of a file may change without a request.

        A store through a mapping changes its times, and a write removes suid and sgid.
        """
        writers = self._written.get(attr.nodeid)
        return writers is not None and bool(writers[1] or attr.st.st_mode & _SUID_SGID)

    def validity(self, attr: Attr) -> tuple[int, int]:
        """Return how long the attributes may be remembered, in seconds and ns."""
        if self._written and self._is_unsettled(attr):
            return 0, 0
        return self.valid, self.valid_ns

    def put_entry(self, attr: Attr, out: Room, at: int) -> None:
        valid = self._entry_valid
        if self._written and self._is_unsettled(attr):
            valid = self._entry_unsettled
        _pack_entry(out, at, attr.nodeid, valid, *_fields(attr))

    def put_listed(self, listed: Listed, out: Room, at: int, limit: int) -> int:
        """Put an entry of a listing at `at`; return where the next begins, 0 if it does not fit.

        Without attributes the kernel asks for them if it needs them.
        """
        cookie, name, d_type, st_ino, attr = listed
        length = len(name)
        words = length + 7 >> 3
        end = at + _HEAD + (words << 3)
        if end > limit:
            return 0
        packs = _packs.get(words) or _make_packs(words)
        if attr is None:
            packs[1](out, at, b"", st_ino, cookie, length, d_type, name)
            return end
        valid = self._entry_valid
        if self._written and self._is_unsettled(attr):
            valid = self._entry_unsettled
        nodeid, _, nlink, uid, gid, blocks, st = attr
        mode, _, _, _, _, _, size, atime, mtime, ctime = st
        # Not `_fields`: to hand so many values on takes as long as to pack them.
        packs[0](
            out,
            at,
            nodeid,
            valid,
            st_ino,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            st.st_atime_ns % NS,
            st.st_mtime_ns % NS,
            st.st_ctime_ns % NS,
            mode,
            nlink,
            uid,
            gid,
            st.st_rdev & 0xFFFFFFFF,
            st.st_blksize,
            0,
            st_ino,
            cookie,
            length,
            d_type,
            name,
        )
        return end

    def entry(self, attr: Attr, request: Request) -> int:
        self.put_entry(attr, request.out, request.body)
        return _ENTRY_SIZE

    def absent(self, request: Request) -> int:
        """Answer that a name is absent, which the kernel may remember."""
        _pack_whole_entry(request.out, request.body, self._absent)
        return _ENTRY_SIZE

    def attributes(self, attr: Attr, request: Request) -> int:
        head = self._attr_head
        if self._written and self._is_unsettled(attr):
            head = self._attr_unsettled
        _pack_attributes(request.out, request.body, head, *_fields(attr))
        return abi.ATTR_SIZE


def _fields(attr: Attr) -> tuple[float, ...]:
    """Return the fields of `abi.ATTR`."""
    _, st_ino, nlink, uid, gid, blocks, st = attr
    mode, _, _, _, _, _, size, atime, mtime, ctime = st
    return (
        st_ino,
        size,
        blocks,
        atime,
        mtime,
        ctime,
        st.st_atime_ns % NS,
        st.st_mtime_ns % NS,
        st.st_ctime_ns % NS,
        mode,
        nlink,
        uid,
        gid,
        st.st_rdev & 0xFFFFFFFF,
        st.st_blksize,
        0,
    )
