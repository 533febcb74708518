"""Private copies of mounts: open_tree(2), move_mount(2), and mount_setattr(2) for their flags.

Linux 5.12; CAP_SYS_ADMIN in the user namespace of the mount namespace.
"""

from __future__ import annotations

import ctypes
import os
import struct

from unionfs.syscalls.libc import AT_EMPTY_PATH, fail, libc
from unionfs.syscalls.renameat2 import AT_FDCWD

# <linux/mount.h>
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_ATIME = 0x70  # the bits of the three that follow, of which RELATIME is 0
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20

_SYS_OPEN_TREE = 428  # all are the same on every architecture
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_OPEN_TREE_CLONE = 1
_AT_RECURSIVE = 0x8000
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_ATTR = struct.Struct("=QQQQ")  # set, clear, propagation, userns_fd

_open_tree = libc["syscall"]  # a separate object: other modules declare other types
_open_tree.restype = ctypes.c_long
_open_tree.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_move_mount = libc["syscall"]
_move_mount.restype = ctypes.c_long
_move_mount.argtypes = [
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
]
_mount_setattr = libc["syscall"]
_mount_setattr.restype = ctypes.c_long
_mount_setattr.argtypes = [
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
    ctypes.c_char_p,
    ctypes.c_size_t,
]


def clone_mount(fd: int) -> int:
    """Return an O_PATH fd of a copy of the mount of `fd`, whose root is `fd`.

    The copy is in no mount namespace, and has no mounts in it.  It exists as long as files
    in it are open.  The caller closes the fd.  Raises EPERM without the privilege, EINVAL
    if a mount in it is locked, ENOSYS before Linux 5.2.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH
    tree = _open_tree(_SYS_OPEN_TREE, fd, b"", flags)
    if tree < 0:
        raise fail()
    return int(tree)


def mount_clone(fd: int, target: bytes) -> None:
    """Mount the copy of a mount that is open as `fd`, and mounted nowhere, on `target`.

    Raises EINVAL where it is mounted already.  Source: move_mount(2).
    """
    flags = _MOVE_MOUNT_F_EMPTY_PATH
    if _move_mount(_SYS_MOVE_MOUNT, fd, b"", AT_FDCWD, target, flags) != 0:
        raise fail(target)


def set_mount_attributes(
    fd: int, attributes: int, clear: int, propagation: int = 0, *, recursive: bool = False
) -> None:
    """Set the MOUNT_ATTR_* `attributes` of the mount whose root is `fd`, after `clear`.

    `propagation` is MS_PRIVATE or another such flag of mount(2), or 0 to leave it.  If
    `recursive`, those of all mounts in it are set too.  Raises EPERM if one of them is
    locked, as in a user namespace, ENOSYS before Linux 5.12.
    """
    attr = _ATTR.pack(attributes, clear, propagation, 0)
    flags = AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    if _mount_setattr(_SYS_MOUNT_SETATTR, fd, b"", flags, attr, len(attr)) != 0:
        raise fail()
