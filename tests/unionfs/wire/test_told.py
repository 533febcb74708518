"""The kernel must not keep attributes of a directory that it was told before a change."""

from __future__ import annotations

import pytest

from tests.unionfs.wire.kernel import Given, Kernel
from unionfs.core.union import UnionFs
from unionfs.types import ROOT_NODEID, NodeId
from unionfs.wire import abi, told
from unionfs.wire.abi import Opcode
from unionfs.wire.session import Terms
from unionfs.wire.told import Told

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


def test_so_is_what_a_listing_of_the_parent_told(fs: UnionFs) -> None:
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


def test_a_program_knows_its_own_changes(fs: UnionFs) -> None:
    kernel, cache, d = _with_cache(fs)
    _stat(kernel, d, pid=1)
    _make(kernel, d, pid=1)
    assert cache.forgotten == []


def test_of_two_that_were_told_one_may_be_late() -> None:
    cache = Given()
    known = Told(cache)
    for pid in (1, 2):
        known.tell(_D, pid)
    known.changed(_D, 2)
    assert cache.forgotten == [_D]


def test_what_was_told_long_ago_is_known_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Given()
    known = Told(cache)
    monkeypatch.setattr(told, "SUSPECT_S", -1.0)
    for pid in (1, 2):
        known.tell(_D, pid)
    known.changed(_D, 3)
    assert cache.forgotten == []


def test_few_are_remembered() -> None:
    known = Told(Given())
    for number in range(10 * told.MOST):
        known.tell(NodeId(number), 1)
    assert len(known.programs) <= told.MOST + 1
