"""Requests about names in a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unionfs.wire.kernel import Kernel
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID
from unionfs.wire import abi
from unionfs.wire.abi import Opcode
from unionfs.wire.request import Defer
from unionfs.wire.session import Terms


def test_lookup_tells_everything_stat_shows(kernel: Kernel, tmp_path: Path) -> None:
    st = os.stat(tmp_path / "lower/f")
    entry = kernel.lookup(ROOT_NODEID, b"f")
    assert entry[0] == entry[6] == st.st_ino
    assert entry[7] == 4
    assert entry[10] * 10**9 + entry[13] == st.st_mtime_ns
    assert entry[15:19] == (st.st_mode, 1, st.st_uid, st.st_gid)


def test_an_absent_name_is_remembered_unless_layers_change(fs: UnionFs) -> None:
    """nodeid 0 with a time to live, or ENOENT where there is none."""
    assert Kernel(fs, Terms()).lookup(ROOT_NODEID, b"none")[:3] == (0, 0, 1 << 31)
    with pytest.raises(FileNotFoundError):
        Kernel(fs, Terms(timeout=0.0)).lookup(ROOT_NODEID, b"none")


def test_names_are_made_moved_and_removed_in_the_upper(kernel: Kernel, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    kernel.ask(Opcode.MKDIR, ROOT_NODEID, abi.MKDIR_IN.pack(0o777, 0o027), data=b"made\0")
    assert (upper / "made").stat().st_mode & 0o7777 == 0o750
    made = kernel.nodeid(ROOT_NODEID, b"made")
    kernel.ask(Opcode.SYMLINK, made, data=b"link\0target\0")
    assert os.readlink(upper / "made/link") == "target"
    kernel.ask(Opcode.RENAME, made, abi.RENAME_IN.pack(ROOT_NODEID), data=b"link\0moved\0")
    assert os.readlink(upper / "moved") == "target"
    kernel.ask(Opcode.UNLINK, ROOT_NODEID, data=b"moved\0")
    kernel.ask(Opcode.RMDIR, ROOT_NODEID, data=b"made\0")
    assert os.listdir(upper) == []


def test_a_new_link_is_the_same_inode(kernel: Kernel) -> None:
    nodeid = kernel.nodeid(ROOT_NODEID, b"f")
    body = kernel.ask(Opcode.LINK, ROOT_NODEID, abi.LINK_IN.pack(nodeid), data=b"second\0")
    assert abi.ENTRY_HEAD.unpack_from(body)[0] == nodeid
    assert abi.ATTR.unpack_from(body, abi.ENTRY_HEAD.size)[10] == 2, "nlink"


def test_a_rename_that_copies_up_is_deferred(kernel: Kernel, tmp_path: Path) -> None:
    message = abi.RENAME2_IN.pack(ROOT_NODEID, 0, 0), b"big\0moved\0"
    kernel.lookup(ROOT_NODEID, b"big")
    with pytest.raises(Defer):
        kernel.ask(Opcode.RENAME2, ROOT_NODEID, *message, wait=False)
    assert os.listdir(tmp_path / "upper") == []
    kernel.ask(Opcode.RENAME2, ROOT_NODEID, *message)
    assert (tmp_path / "upper/moved").stat().st_size == 100_000
