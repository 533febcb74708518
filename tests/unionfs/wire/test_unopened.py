"""Reading without OPEN: the handles are ours, and their number is bounded."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from tests.helpers.mounts import mounted_union, require_fuse
from tests.unionfs.wire.kernel import Kernel, Table
from unionfs.core.config import UnionConfig
from unionfs.core.opening import open_union
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID, Fh, NodeId
from unionfs.wire import abi, unopened
from unionfs.wire.abi import Init, Opcode
from unionfs.wire.session import Terms


@pytest.fixture
def read_only(tmp_path: Path) -> UnionFs:
    lower = tmp_path / "lower"
    lower.mkdir()
    for number in range(4):
        (lower / str(number)).write_text(f"text {number}")
    return open_union(UnionConfig(lowers=(os.fsencode(lower),)))


def kernel_of(fs: UnionFs, *, counts_reads: bool = False) -> Kernel:
    return Kernel(fs, Terms(no_open=True, backings=Table(), counts_reads=counts_reads))


def read(kernel: Kernel, nodeid: NodeId) -> bytes:
    return kernel.ask(Opcode.READ, nodeid, abi.READ_IN.pack(0, 0, 100, 0, 0, 0, 0))


def handles(fs: UnionFs) -> int:
    return fs.counters().get("handles", 0)


def test_a_file_is_read_by_its_nodeid_alone(read_only: UnionFs) -> None:
    kernel = kernel_of(read_only)
    assert kernel.session.flags & Init.NO_OPEN_SUPPORT
    assert not kernel.session.flags & Init.PASSTHROUGH
    nodeid = kernel.nodeid(ROOT_NODEID, b"1")
    with pytest.raises(OSError) as caught:
        kernel.open(nodeid, os.O_RDONLY)
    assert caught.value.errno == errno.ENOSYS
    assert read(kernel, nodeid) == b"text 1"
    assert read(kernel, nodeid) == b"text 1"
    hole = kernel.ask(Opcode.LSEEK, nodeid, abi.LSEEK_IN.pack(0, 0, os.SEEK_HOLE, 0))
    assert abi.LSEEK_OUT.unpack(hole) == (6,)
    assert kernel.ask(Opcode.FSYNC, nodeid, abi.FSYNC_IN.pack(0, 0, 0)) == b""
    assert handles(read_only) == 1
    kernel.session.forget(Opcode.FORGET, nodeid, abi.FORGET_IN.pack(1), 0)
    assert handles(read_only) == 0
    read_only.close()


def test_few_files_stay_open(read_only: UnionFs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unopened, "MOST_OPEN", 2)
    kernel = kernel_of(read_only)
    for _ in range(2):
        for number in range(4):
            assert read(kernel, kernel.nodeid(ROOT_NODEID, b"%d" % number)) == b"text %d" % number
    assert handles(read_only) == 2
    read_only.close()


def test_a_handle_closed_by_another_thread_is_opened_again(
    read_only: UnionFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = kernel_of(read_only)
    nodeid = kernel.nodeid(ROOT_NODEID, b"1")
    opened: list[Fh] = []
    open_ = read_only.open

    def noted(nodeid: NodeId, flags: int) -> Fh:
        opened.append(open_(nodeid, flags))
        return opened[-1]

    monkeypatch.setattr(read_only, "open", noted)
    assert read(kernel, nodeid) == b"text 1"
    # As another thread may do between this thread's look-up of the handle and its use.
    read_only.release(opened[0])
    assert read(kernel, nodeid) == b"text 1"
    assert len(opened) == 2
    assert handles(read_only) == 1
    read_only.close()


def test_what_open_raises_is_the_answer(read_only: UnionFs, tmp_path: Path) -> None:
    kernel = kernel_of(read_only)
    nodeid = kernel.nodeid(ROOT_NODEID, b"1")
    (tmp_path / "lower/1").unlink()
    with pytest.raises(OSError) as caught:
        read(kernel, nodeid)
    assert caught.value.errno in (errno.ENOENT, errno.ESTALE)
    assert handles(read_only) == 0
    read_only.close()


def test_reads_that_count_need_opens(read_only: UnionFs) -> None:
    """With strictatime each open reads anew, so the kernel has to ask."""
    kernel = kernel_of(read_only, counts_reads=True)
    assert not kernel.session.flags & Init.NO_OPEN_SUPPORT
    read_only.close()


def test_a_mount_opens_without_a_request(tmp_path: Path) -> None:
    require_fuse()
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower/file").write_text("text")
    with mounted_union([tmp_path / "lower"], options=["noopen", "transport=dev_fuse"]) as union:
        for _ in range(3):
            assert (union.root / "file").read_text() == "text"
        counted = json.loads(os.getxattr(union.root, "user.pyunion.counters"))
    assert "RELEASE" not in counted
    assert (counted["OPEN"], counted["READ"]) == (1, 1)
