"""flock(2) on files that can be two inodes."""

from __future__ import annotations

import errno
import fcntl
import os
import threading

import pytest

from tests.helpers.mounts import wait_until
from tests.unionfs.wire.kernel import Kernel, Table
from unionfs.core.union import UnionFs
from unionfs.interrupts import Caller, working_for
from unionfs.types import ROOT_NODEID, NodeId
from unionfs.wire import abi
from unionfs.wire.abi import Init, Opcode
from unionfs.wire.request import Defer
from unionfs.wire.session import Terms

EX, SH, UN = fcntl.F_WRLCK, fcntl.F_RDLCK, fcntl.F_UNLCK


class Locking(Kernel):
    """Also locks, and gives locks up."""

    def flock(self, nodeid: NodeId, owner: int, kind: int, *, waits: bool = False) -> None:
        opcode = Opcode.SETLKW if waits else Opcode.SETLK
        self.ask(opcode, nodeid, abi.LK_IN.pack(0, owner, 0, 0, kind, 0, abi.LK_FLOCK))

    def close(self, nodeid: NodeId, fh: int, owner: int) -> None:
        args = abi.RELEASE_IN.pack(fh, 0, abi.RELEASE_FLOCK_UNLOCK, owner)
        self.ask(Opcode.RELEASE, nodeid, args)


@pytest.fixture
def kernel(fs: UnionFs) -> Locking:
    return Locking(fs, Terms(pass_all=True, backings=Table()))


@pytest.fixture
def file(kernel: Locking) -> NodeId:
    return kernel.nodeid(ROOT_NODEID, b"f")


def test_only_a_mount_whose_files_can_be_two_inodes_is_asked(fs: UnionFs, kernel: Kernel) -> None:
    assert kernel.session.flags & Init.FLOCK_LOCKS
    assert not Kernel(fs, Terms(backings=Table())).session.flags & Init.FLOCK_LOCKS
    assert not Kernel(fs, Terms(pass_all=True)).session.flags & Init.FLOCK_LOCKS


def test_locks_exclude_each_other(kernel: Locking, file: NodeId) -> None:
    kernel.flock(file, 1, SH)
    kernel.flock(file, 2, SH)
    with pytest.raises(BlockingIOError):
        kernel.flock(file, 3, EX)
    with pytest.raises(BlockingIOError):
        kernel.flock(file, 2, EX)  # and gives its own up first
    kernel.flock(file, 1, EX)
    with pytest.raises(BlockingIOError):
        kernel.flock(file, 2, SH)
    kernel.flock(file, 1, UN)
    kernel.flock(file, 1, UN)
    kernel.flock(file, 2, EX)
    kernel.flock(kernel.nodeid(ROOT_NODEID, b"big"), 4, EX)


def test_both_inodes_of_a_file_have_one_lock(
    kernel: Locking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unionfs.wire.modes.PATIENCE", 0)
    old = kernel.nodeid(ROOT_NODEID, b"big")
    reader = kernel.open(old, os.O_RDONLY)[0]
    kernel.flock(old, 1, EX)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        kernel.open(old, os.O_RDWR)
    new = kernel.nodeid(ROOT_NODEID, b"big")
    assert new != old
    kernel.open(new, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        kernel.flock(new, 2, EX)
    kernel.close(old, reader, 1)
    kernel.flock(new, 2, EX)


def test_a_waiting_caller_gets_the_lock(kernel: Locking, file: NodeId) -> None:
    kernel.flock(file, 1, EX, waits=True)
    wanted = abi.LK_IN.pack(0, 2, 0, 0, EX, 0, abi.LK_FLOCK)
    with pytest.raises(Defer):
        kernel.ask(Opcode.SETLKW, file, wanted, wait=False)
    waiter = threading.Thread(target=lambda: kernel.flock(file, 2, EX, waits=True))
    waiter.start()
    kernel.flock(file, 1, UN)
    waiter.join(20)
    with pytest.raises(BlockingIOError):
        kernel.flock(file, 1, SH)


def test_a_signal_ends_the_wait(kernel: Locking, file: NodeId) -> None:
    kernel.flock(file, 1, EX)
    caller = Caller(os.getpid())
    caller.interrupted = True
    with working_for(caller), pytest.raises(InterruptedError):
        kernel.flock(file, 2, EX, waits=True)
    kernel.flock(file, 1, UN)
    kernel.flock(file, 3, EX)


def test_a_caller_that_is_killed_unnoticed_stops_waiting(
    kernel: Locking, file: NodeId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Caller, "is_ending", lambda caller: True)
    monkeypatch.setattr("unionfs.wire.locks.LOOK_S", 0.001)
    kernel.flock(file, 1, EX)
    with working_for(Caller(os.getpid())), pytest.raises(InterruptedError):
        kernel.flock(file, 2, EX, waits=True)


def test_the_number_of_waiting_callers_is_limited(
    fs: UnionFs, kernel: Locking, file: NodeId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others get an error, so that there is a thread for the one who unlocks."""
    monkeypatch.setattr("unionfs.wire.locks.MOST_WAITING", 1)
    kernel.flock(file, 1, EX)
    begun = threading.Event()
    outside = fs.gate.outside

    def noting() -> object:
        begun.set()
        return outside()

    monkeypatch.setattr(fs.gate, "outside", noting)
    waiter = threading.Thread(target=lambda: kernel.flock(file, 2, EX, waits=True))
    waiter.start()
    wait_until(begun.is_set, "the thread to wait")
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        kernel.flock(file, 3, EX, waits=True)
    kernel.flock(file, 1, UN)
    waiter.join(20)


def test_record_locks_are_not_ours(kernel: Locking, file: NodeId) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
        kernel.ask(Opcode.SETLK, file, abi.LK_IN.pack(0, 1, 0, 0, EX, 0, 0))


def test_a_restore_keeps_the_number_of_a_locked_file(
    fs: UnionFs, kernel: Locking, file: NodeId
) -> None:
    """With another st_ino it could be locked twice."""
    kernel.ask(Opcode.RENAME, ROOT_NODEID, abi.RENAME_IN.pack(ROOT_NODEID), b"f\0moved\0")
    kernel.flock(file, 1, EX)
    with pytest.raises(OSError, match="/moved, which the container has renamed and locked"):
        fs.restore(b"/f")
    kernel.flock(file, 1, UN)
    assert fs.restore(b"/f").changed
    kernel.flock(file, 1, EX)
    kernel.flock(kernel.nodeid(ROOT_NODEID, b"f"), 2, EX)
