"""Requests about one inode: attributes, extended attributes, symbolic links, ioctls."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from tests.unionfs.wire.kernel import EVERYTHING, Kernel
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID
from unionfs.wire import abi
from unionfs.wire.abi import Init, Opcode
from unionfs.wire.request import Defer
from unionfs.wire.session import Terms


def test_attributes_of_both_sizes(kernel: Kernel) -> None:
    """Size 0 asks how much room a value takes; too little of it is ERANGE."""
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    value = b"x" * 10
    kernel.ask(
        Opcode.SETXATTR, nodeid, abi.SETXATTR_IN.pack(len(value), 0, 0, 0), b"user.a\0" + value
    )
    asked = b"user.a\0"
    assert kernel.ask(Opcode.GETXATTR, nodeid, abi.GETXATTR_IN.pack(0, 0), asked)[:4] == b"\n\0\0\0"
    assert kernel.ask(Opcode.GETXATTR, nodeid, abi.GETXATTR_IN.pack(10, 0), asked) == value
    with pytest.raises(OSError) as caught:
        kernel.ask(Opcode.GETXATTR, nodeid, abi.GETXATTR_IN.pack(9, 0), asked)
    assert caught.value.errno == errno.ERANGE


def test_setxattr_in_the_short_form(fs: UnionFs) -> None:
    """Without SETXATTR_EXT the struct is half as long."""
    kernel = Kernel(fs, Terms(), EVERYTHING & ~Init.SETXATTR_EXT)
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    kernel.ask(Opcode.SETXATTR, nodeid, abi.SETXATTR_IN_SHORT.pack(1, 0), b"user.a\0v")
    assert fs.getxattr(nodeid, b"user.a") == b"v"


def test_setattr_takes_only_what_is_valid(kernel: Kernel, tmp_path: Path) -> None:
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    values = (0, 99, 0, 0, 0, 0, 0, 0, 0, 0o100600, 77, 78)
    args = abi.SETATTR_IN.pack(abi.FATTR_MODE | abi.FATTR_GID, *values)
    body = kernel.ask(Opcode.SETATTR, nodeid, args)
    assert abi.ATTR.unpack_from(body, abi.ATTR_HEAD.size)[1] == 4, "size"
    assert (tmp_path / "upper/f").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "upper/f").stat().st_gid == 78
    assert (tmp_path / "upper/f").stat().st_uid == (tmp_path / "lower/f").stat().st_uid


def test_truncate_by_somebody_without_fsetid_takes_suid(kernel: Kernel, tmp_path: Path) -> None:
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    (tmp_path / "lower/f").chmod(0o4755)
    values = (0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    args = abi.SETATTR_IN.pack(abi.FATTR_SIZE | abi.FATTR_KILL_SUIDGID, *values)
    kernel.ask(Opcode.SETATTR, nodeid, args)
    assert (tmp_path / "upper/f").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "upper/f").read_bytes() == b"d"


def test_trusted_names_are_listed_for_those_with_cap_sys_admin(kernel: Kernel) -> None:
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    kernel.ask(Opcode.SETXATTR, nodeid, abi.SETXATTR_IN.pack(1, 0, 0, 0), b"trusted.a\0v")
    room = abi.GETXATTR_IN.pack(100, 0)
    ours = threading.get_native_id()
    assert kernel.ask(Opcode.LISTXATTR, nodeid, room, pid=ours) == b"trusted.a\0"
    assert kernel.ask(Opcode.LISTXATTR, nodeid, room) == b"", "nobody who can be seen"


def test_syncfs_waits_for_the_disk(kernel: Kernel) -> None:
    with pytest.raises(Defer):
        kernel.ask(Opcode.SYNCFS, ROOT_NODEID, abi.SYNCFS_IN.pack(), wait=False)
    assert kernel.ask(Opcode.SYNCFS, ROOT_NODEID, abi.SYNCFS_IN.pack()) == b""
