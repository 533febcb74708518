"""The kernel must not keep attributes that it was told before a change."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unionfs.wire.kernel import Given, Kernel
from unionfs.core.union import UnionFs
from unionfs.syscalls.renameat2 import RENAME_EXCHANGE
from unionfs.types import ROOT_NODEID, NodeId
from unionfs.wire import abi, late_replies
from unionfs.wire.abi import Opcode
from unionfs.wire.late_replies import LateReplies
from unionfs.wire.session import Terms

_D = NodeId(7)


def _with_cache(fs: UnionFs) -> tuple[Kernel, Given, NodeId]:
    cache = Given()
    kernel = Kernel(fs, Terms(cache=cache))
    return kernel, cache, kernel.nodeid(ROOT_NODEID, b"d")


def _stat(kernel: Kernel, d: NodeId, pid: int) -> None:
    assert kernel.ask(Opcode.GETATTR, d, abi.GETATTR_IN.pack(0, 0, 0), pid=pid)


def _make(kernel: Kernel, d: NodeId, pid: int) -> None:
    kernel.ask(Opcode.MKNOD, d, abi.MKNOD_IN.pack(0o100644, 0, 0, 0), b"made\0", pid=pid)


def test_what_another_program_was_just_told_is_forgotten(fs: UnionFs) -> None:
    kernel, cache, d = _with_cache(fs)
    _stat(kernel, d, pid=1)
    _make(kernel, d, pid=2)
    assert cache.forgotten == [d]
    kernel.ask(Opcode.UNLINK, d, data=b"made\0", pid=3)
    assert cache.forgotten == [d], "nobody was told anything since"


def test_attributes_from_a_listing_of_the_parent_are_forgotten_too(fs: UnionFs) -> None:
    kernel, cache, d = _with_cache(fs)
    args = abi.READ_IN.pack(0, 0, 65536, 0, 0, 0, 0)
    assert kernel.ask(Opcode.READDIRPLUS, ROOT_NODEID, args, pid=1)
    _make(kernel, d, pid=2)
    assert cache.forgotten == [d]


@pytest.mark.parametrize("opcode", [Opcode.RENAME, Opcode.RENAME2])
def test_a_rename_changes_both_directories(fs: UnionFs, opcode: Opcode) -> None:
    kernel, cache, d = _with_cache(fs)
    for told_of in (ROOT_NODEID, d):
        _stat(kernel, told_of, pid=1)
    renamed = opcode == Opcode.RENAME
    args = abi.RENAME_IN.pack(d) if renamed else abi.RENAME2_IN.pack(d, 0, 0)
    kernel.ask(opcode, ROOT_NODEID, args, b"f\0there\0", pid=2)
    assert sorted(cache.forgotten) == sorted([ROOT_NODEID, d])


def _setxattr(kernel: Kernel, nodeid: NodeId) -> None:
    args = abi.SETXATTR_IN.pack(1, 0, 0, 0)
    kernel.ask(Opcode.SETXATTR, nodeid, args, b"user.a\0v", pid=2)


def _setfacl(kernel: Kernel, nodeid: NodeId) -> None:
    entries = [(1, 7, -1), (2, 7, 1000), (4, 0, -1), (16, 7, -1), (32, 0, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    args = abi.SETXATTR_IN.pack(len(acl), 0, 0, 0)
    kernel.ask(Opcode.SETXATTR, nodeid, args, b"system.posix_acl_access\0" + acl, pid=2)


def _removexattr(kernel: Kernel, nodeid: NodeId) -> None:
    kernel.ask(Opcode.REMOVEXATTR, nodeid, data=b"user.old\0", pid=2)


def _rename(kernel: Kernel, nodeid: NodeId) -> None:
    args = abi.RENAME_IN.pack(ROOT_NODEID)
    kernel.ask(Opcode.RENAME, ROOT_NODEID, args, b"f\0g\0", pid=2)


def _move(kernel: Kernel, nodeid: NodeId) -> None:
    args = abi.RENAME_IN.pack(kernel.nodeid(ROOT_NODEID, b"d"))
    kernel.ask(Opcode.RENAME, ROOT_NODEID, args, b"f\0g\0", pid=2)


def _exchange(kernel: Kernel, nodeid: NodeId) -> None:
    args = abi.RENAME2_IN.pack(ROOT_NODEID, RENAME_EXCHANGE, 0)
    kernel.ask(Opcode.RENAME2, ROOT_NODEID, args, b"big\0f\0", pid=2)


def _preallocate(kernel: Kernel, nodeid: NodeId) -> None:
    fh, _, _ = kernel.open(nodeid, os.O_WRONLY)
    keeps_size = 1
    args = abi.FALLOCATE_IN.pack(fh, 0, 1 << 20, keeps_size, 0)
    kernel.ask(Opcode.FALLOCATE, nodeid, args, pid=2)
    kernel.release(nodeid, fh)


# What makes the kernel only forget attributes, so that a late reply brings them back.
_CHANGES = [_setxattr, _setfacl, _removexattr, _rename, _move, _exchange, _preallocate]


def _ask(kernel: Kernel, nodeid: NodeId) -> None:
    _stat(kernel, nodeid, pid=1)


def _ask_more(kernel: Kernel, nodeid: NodeId) -> None:
    kernel.ask(Opcode.STATX, nodeid, abi.STATX_IN.pack(0, 0, 0, 0x7FF), pid=1)


def _list(kernel: Kernel, nodeid: NodeId) -> None:
    args = abi.READ_IN.pack(0, 0, 65536, 0, 0, 0, 0)
    # Only for a program that looks at files are they listed with their attributes.
    assert kernel.ask(Opcode.READDIRPLUS, ROOT_NODEID, args, pid=1)
    kernel.lookup(ROOT_NODEID, b"f")
    assert kernel.ask(Opcode.READDIRPLUS, ROOT_NODEID, args, pid=1)


def _ask_many(kernel: Kernel, nodeid: NodeId) -> None:
    kernel.session.late_replies.asked(nodeid, 1)
    for number in range(late_replies.MOST):
        kernel.session.late_replies.asked(NodeId(1000 + number), 1)


@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize("ask", [_ask, _ask_more, _list, _ask_many])
def test_changes_after_which_the_kernel_only_forgets_send_a_notice(
    fs: UnionFs,
    ask: Callable[[Kernel, NodeId], None],
    change: Callable[[Kernel, NodeId], None],
    tmp_path: Path,
) -> None:
    os.setxattr(tmp_path / "lower/f", "user.old", b"")
    kernel, cache, _ = _with_cache(fs)
    f = kernel.nodeid(ROOT_NODEID, b"f")
    ask(kernel, f)
    cache.forgotten.clear()
    change(kernel, f)
    assert f in cache.forgotten


def test_a_lookup_of_a_hard_link_tells_of_an_inode_that_may_be_known(
    fs: UnionFs, tmp_path: Path
) -> None:
    os.link(tmp_path / "lower/f", tmp_path / "lower/d/link")
    kernel, cache, d = _with_cache(fs)
    f = kernel.nodeid(ROOT_NODEID, b"f")
    assert kernel.ask(Opcode.LOOKUP, d, data=b"link\0", pid=1)
    _setxattr(kernel, f)
    assert cache.forgotten == [f]


def test_a_lookup_that_fails_after_all_holds_nothing(
    fs: UnionFs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(tmp_path / "lower/f", tmp_path / "lower/link")
    kernel, _, _ = _with_cache(fs)

    def fail(nodeid: NodeId) -> None:
        raise OSError(errno.EIO, "the disk")

    freed: list[NodeId] = []
    fs.watch_freed(freed.append)
    monkeypatch.setattr(fs, "getattr", fail)
    with pytest.raises(OSError, match="Input/output error"):
        kernel.ask(Opcode.LOOKUP, ROOT_NODEID, data=b"link\0")
    assert len(freed) == 1


def test_threads_of_which_nothing_is_known_may_be_several(fs: UnionFs) -> None:
    """A PID namespace that the mount's does not contain has no numbers in it."""
    kernel, cache, d = _with_cache(fs)
    _stat(kernel, d, pid=0)
    _make(kernel, d, pid=0)
    assert cache.forgotten == [d]


def test_a_program_knows_its_own_changes(fs: UnionFs) -> None:
    kernel, cache, d = _with_cache(fs)
    _stat(kernel, d, pid=1)
    _make(kernel, d, pid=1)
    assert cache.forgotten == []


def test_of_two_that_were_told_one_may_be_late() -> None:
    cache = Given()
    known = LateReplies(cache)
    for pid in (1, 2):
        known.asked(_D, pid)
    known.changed(_D, 2)
    assert cache.forgotten == [_D]


def test_what_was_told_long_ago_is_known_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Given()
    known = LateReplies(cache)
    monkeypatch.setattr(late_replies, "SUSPECT_S", -1.0)
    for pid in (1, 2):
        known.asked(_D, pid)
    known.changed(_D, 3)
    assert cache.forgotten == []


def test_another_that_was_told_is_known_by_now_though_the_program_goes_on_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As rm -r does, begun just after another program has looked at the same files."""
    cache, clock = Given(), 0.0
    noted = LateReplies(cache)
    monkeypatch.setattr(late_replies, "monotonic", lambda: clock)
    noted.asked_many(1)
    while clock < late_replies.SUSPECT_S:
        noted.asked_many(2)
        cache.forgotten.clear()
        noted.changed(_D, 2)
        assert cache.forgotten == [_D]
        clock += 0.3
    noted.asked_many(2)
    cache.forgotten.clear()
    noted.changed(_D, 2)
    assert cache.forgotten == [], "its own change"
    noted.changed(_D, 3)
    assert cache.forgotten == [_D], "thread 2 may be late"


def test_few_are_remembered_and_the_others_not_forgotten() -> None:
    cache = Given()
    known = LateReplies(cache)
    for number in range(1, 10 * late_replies.MOST):
        known.asked(NodeId(number), 1)
        assert len(known.programs) <= late_replies.MOST + 1
    known.changed(NodeId(1), 1)
    assert cache.forgotten == [], "nobody else was told anything"
    known.changed(NodeId(1), 2)
    known.changed(NodeId(2), 2)
    assert cache.forgotten == [1, 2]


def test_of_many_what_was_told_long_ago_is_known_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Given()
    known = LateReplies(cache)
    known.asked_many(1)
    monkeypatch.setattr(late_replies, "SUSPECT_S", -1.0)
    known.changed(_D, 2)
    assert cache.forgotten == []
    assert not known.programs


def test_two_threads_may_find_that_there_are_too_many() -> None:
    """The other one has emptied the notes, and has not made the one of all yet."""

    class Emptied(dict[NodeId, tuple[int, float, float]]):
        def copy(self) -> dict[NodeId, tuple[int, float, float]]:
            self.clear()
            return {}

    cache = Given()
    noted = LateReplies(cache)
    for number in range(late_replies.MOST + 1):
        noted.asked(NodeId(number + 100), pid=1)
    noted.programs = Emptied(noted.programs)
    noted.asked(_D, pid=1)
    noted.changed(_D, pid=2)
    assert cache.forgotten == [_D]
