"""File handles and filesystem ids, which identify an inode independently of its path.

Source: name_to_handle_at(2); FS_IOC_GETFSUUID of linux/fs.h (6.9 and later); before that
EXT4_IOC_GETFSUUID of fs/ext4/ext4.h (6.0), XFS_IOC_FSGEOMETRY_V1 of fs/xfs/libxfs/xfs_fs.h
and BTRFS_IOC_FS_INFO of linux/btrfs.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from contextlib import suppress

from unionfs.light_typing import NamedTuple
from unionfs.syscalls.libc import libc

_MAX_HANDLE = 128
_HANDLE = struct.Struct("=Ii")  # handle_bytes, handle_type
_AT_HANDLE_FID = 0x200
_FS_IOC_GETFSUUID = 0x80111500
_UUID = 16


class _Asked(NamedTuple):
    """An ioctl that has the uuid in its reply: what is passed, and where the uuid begins."""

    request: int
    passed: bytes
    at: int


# What filesystems had of their own before there was one ioctl for all.  An ioctl of another
# filesystem is ENOTTY: the numbers of these are of three types ('f', 'X', 0x94).
_OF_ONE_FILESYSTEM = (
    _Asked(0x8008662C, struct.pack("=II", _UUID, 0) + bytes(_UUID), 8),  # struct fsuuid
    _Asked(0x80705864, bytes(112), 64),  # struct xfs_fsop_geom_v1
    _Asked(0x8400941F, bytes(1024), 16),  # struct btrfs_ioctl_fs_info_args
)

_Buffer = ctypes.c_char * (_HANDLE.size + _MAX_HANDLE)

# A separate object without a prototype, which would double the cost of a call.
_name_to_handle_at = libc["name_to_handle_at"]
_mount_id = ctypes.c_int()  # the system call wants to return it
_mount_id_at = ctypes.byref(_mount_id)


class FileHandle(NamedTuple):
    """A file handle, by which a filesystem identifies an inode: its type and its bytes."""

    kind: int
    fid: bytes


def handle_at(dir_fd: int, name: bytes) -> FileHandle:
    """Return the handle of `name` beneath `dir_fd`, not following a link.

    It identifies the inode; not every filesystem can open it.  Raises EOPNOTSUPP if the
    filesystem has no handles; before Linux 6.5 also if it has none that can be opened.
    """
    buffer = _Buffer()
    for flags in (0, _AT_HANDLE_FID):
        _HANDLE.pack_into(buffer, 0, _MAX_HANDLE, 0)
        if _name_to_handle_at(dir_fd, name, buffer, _mount_id_at, flags) == 0:
            break
        # An error kept in a local variable would form a reference cycle with its
        # traceback, and keep open the fds of all callers until the next collection.
        code = ctypes.get_errno()
        if code == errno.EINVAL:  # the kernel does not know AT_HANDLE_FID
            code = errno.EOPNOTSUPP
        elif not flags and code == errno.EOPNOTSUPP:
            continue
        raise OSError(code, os.strerror(code), name)
    length, kind = _HANDLE.unpack_from(buffer)
    return FileHandle(kind, buffer.raw[_HANDLE.size : _HANDLE.size + length])


def filesystem_uuid(fd: int) -> bytes:
    """Return the 16 bytes of the uuid of the filesystem of `fd`, zeros if it has none.

    It is the one that overlayfs writes into marks and names of its index.  On a kernel before
    6.9 it is found for ext4, xfs and btrfs alone.
    """
    reply = bytearray(1 + _UUID)  # struct fsuuid2: u8 len, u8 uuid[16]
    try:
        fcntl.ioctl(fd, _FS_IOC_GETFSUUID, reply)
    except OSError as error:
        return own_uuid(fd) if error.errno in (errno.ENOTTY, errno.EINVAL) else bytes(_UUID)
    return bytes(reply[1 : 1 + reply[0]]).ljust(_UUID, b"\0")


def own_uuid(fd: int) -> bytes:
    """Return the uuid that the filesystem of `fd` tells by an ioctl of its own, or zeros."""
    for request, passed, at in _OF_ONE_FILESYSTEM:
        reply = bytearray(passed)
        with suppress(OSError):
            fcntl.ioctl(fd, request, reply)
            return bytes(reply[at : at + _UUID])
    return bytes(_UUID)
