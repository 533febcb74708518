"""File handles and filesystem ids, which identify an inode independently of its path.

Source: name_to_handle_at(2); FS_IOC_GETFSUUID of linux/fs.h (6.9 and later).
"""

import ctypes
import errno
import fcntl
import os
from typing import NamedTuple

from unionfs.syscalls.libc import libc

_MAX_HANDLE = 128
_AT_HANDLE_FID = 0x200
_HEAD = 8  # handle_bytes and handle_type, a u32 and an int
_FS_IOC_GETFSUUID = 0x80111500

_Buffer = ctypes.c_char * (_HEAD + _MAX_HANDLE)

_name_to_handle_at = libc.name_to_handle_at
_name_to_handle_at.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
]


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
    mount_id = ctypes.c_int()
    for flags in (0, _AT_HANDLE_FID):
        ctypes.c_uint.from_buffer(buffer).value = _MAX_HANDLE
        if _name_to_handle_at(dir_fd, name, buffer, ctypes.byref(mount_id), flags) == 0:
            break
        # An error kept in a local variable would form a reference cycle with its
        # traceback, and keep open the fds of all callers until the next collection.
        code = ctypes.get_errno()
        if code == errno.EINVAL:  # the kernel does not know AT_HANDLE_FID
            code = errno.EOPNOTSUPP
        elif not flags and code == errno.EOPNOTSUPP:
            continue
        raise OSError(code, os.strerror(code), name)
    length = ctypes.c_uint.from_buffer(buffer).value
    kind = ctypes.c_int.from_buffer(buffer, 4).value
    return FileHandle(kind, buffer.raw[_HEAD : _HEAD + length])


def filesystem_uuid(fd: int) -> bytes:
    """Return the 16 bytes of the uuid of the filesystem of `fd`, zeros if it has none."""
    reply = bytearray(17)  # struct fsuuid2: u8 len, u8 uuid[16]
    try:
        fcntl.ioctl(fd, _FS_IOC_GETFSUUID, reply)
    except OSError:
        return bytes(16)
    return bytes(reply[1 : 1 + reply[0]]).ljust(16, b"\0")
