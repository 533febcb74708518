"""File attributes by ioctl: chattr's flags and the extended form of them.

Source: ioctl_iflags(2); FS_IOC_FSGETXATTR of linux/fs.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from unionfs.core.copy_up import copy_up_dir, copy_up_file
from unionfs.core.file import reopen
from unionfs.core.inode import Dir, File, Node
from unionfs.core.layer import Fd
from unionfs.core.state import State
from unionfs.errors import fs_error
from unionfs.syscalls.statx import APPEND_ONLY, IMMUTABLE

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FSSETXATTR = 0x401C5820

_READS = {FS_IOC_GETFLAGS: 4, FS_IOC_FSGETXATTR: 28}
_WRITES = {FS_IOC_SETFLAGS: 4, FS_IOC_FSSETXATTR: 28}


def fileattr(state: State, node: Node, command: int, data: bytes) -> bytes:
    """Answer the ioctl `command` with argument `data`; ENOTTY for one that is not known."""
    if command in _READS:
        reply = bytearray(_READS[command])
        fcntl.ioctl(_open(state, node), command, reply)
        return bytes(reply)
    if command not in _WRITES:
        raise fs_error(errno.ENOTTY)
    state.require_upper()
    if len(data) < _WRITES[command]:
        raise fs_error(errno.EINVAL)
    if isinstance(node, Dir):
        copy_up_dir(state, node)
        node.unmarked = False
    elif isinstance(node, File):
        copy_up_file(state, node, allowed=APPEND_ONLY | IMMUTABLE)
    fcntl.ioctl(_open(state, node), command, data[: _WRITES[command]])
    return b""


def _open(state: State, node: Node) -> Fd:
    if isinstance(node, Dir):
        return node.top().fd()
    assert isinstance(node, File)
    if node.kind != stat.S_IFREG:
        raise fs_error(errno.ENOTTY)
    return reopen(state, node, os.O_RDONLY | os.O_NONBLOCK)
