"""statx(2): the attributes `os.stat` lacks, such as the time of birth.

The offsets in struct statx of linux/stat.h are here and only here.
"""

from __future__ import annotations

import ctypes
import os
from struct import Struct

from unionfs.syscalls.libc import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, fail, libc
from unionfs.types import NS, Attr

SIZE = 256

_STATX_TYPE_MODE, _STATX_MNT_ID = 0x3, 0x1000

# Marks of chattr(1); the flags of ioctl_iflags(2) have the same numbers.
IMMUTABLE, APPEND_ONLY = 0x10, 0x20

# A field or a few that follow each other, and the offset of the first in bytes.
_ATTRIBUTES, _ATTRIBUTES_AT = Struct("=Q"), 8
_NLINK_UID_GID_MODE, _NLINK_AT = Struct("=IIIH"), 16
_MODE, _MODE_AT = Struct("=H"), 28
_INO, _INO_AT = Struct("=Q"), 32
_BLOCKS, _BLOCKS_AT = Struct("=Q"), 48
_CTIME, _CTIME_AT = Struct("=qI"), 96  # seconds, ns
_RDEV, _RDEV_AT = Struct("=II"), 128  # major, minor
_MNT_ID, _MNT_ID_AT = Struct("=Q"), 144

_Buffer = ctypes.c_char * SIZE

_statx = libc.statx
_statx.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_void_p,
]

# A separate object without a prototype, which would double the cost of a call.
_quick_statx = libc["statx"]


def statx(dir_fd: int, name: bytes, mask: int) -> bytearray:
    """Return struct statx of `name` beneath `dir_fd`, or of `dir_fd` itself for b""."""
    buffer = _Buffer()
    flags = AT_SYMLINK_NOFOLLOW if name else AT_EMPTY_PATH
    if _statx(dir_fd, name, flags, mask, buffer) != 0:
        raise fail(name)
    return bytearray(buffer)


def marks_at(dir_fd: int, name: bytes) -> int:
    """Return which of IMMUTABLE and APPEND_ONLY `name` has beneath `dir_fd`, or, for b"", that."""
    buffer = _Buffer()
    flags = AT_SYMLINK_NOFOLLOW if name else AT_EMPTY_PATH
    if _quick_statx(dir_fd, name, flags, 0, buffer) != 0:
        raise fail(name)
    found: int = _ATTRIBUTES.unpack_from(buffer, _ATTRIBUTES_AT)[0]
    return found & (IMMUTABLE | APPEND_ONLY)


def mode_and_marks(fd: int) -> tuple[int, int]:
    """Return st_mode of the open file `fd`, and which of IMMUTABLE and APPEND_ONLY it has."""
    buffer = _Buffer()
    if _quick_statx(fd, b"", AT_EMPTY_PATH, _STATX_TYPE_MODE, buffer) != 0:
        raise fail()
    mode: int = _MODE.unpack_from(buffer, _MODE_AT)[0]
    found: int = _ATTRIBUTES.unpack_from(buffer, _ATTRIBUTES_AT)[0]
    return mode, found & (IMMUTABLE | APPEND_ONLY)


def mount_id(fd: int) -> int:
    """Return the id in /proc/self/mountinfo of the mount in which `fd` was opened.

    0 before Linux 5.8, whose statx(2) does not return it.
    """
    found: int = _MNT_ID.unpack_from(statx(fd, b"", _STATX_MNT_ID), _MNT_ID_AT)[0]
    return found


def put_attributes(buffer: bytearray, attr: Attr) -> None:
    """Set nlink, uid, gid, mode, ino, blocks, ctime and rdev of a struct statx from `attr`."""
    st = attr.st
    _NLINK_UID_GID_MODE.pack_into(
        buffer, _NLINK_AT, attr.st_nlink, attr.st_uid, attr.st_gid, st.st_mode
    )
    _RDEV.pack_into(buffer, _RDEV_AT, os.major(st.st_rdev), os.minor(st.st_rdev))
    _INO.pack_into(buffer, _INO_AT, attr.st_ino)
    _BLOCKS.pack_into(buffer, _BLOCKS_AT, attr.st_blocks)
    _CTIME.pack_into(buffer, _CTIME_AT, *divmod(attr.st.st_ctime_ns, NS))
