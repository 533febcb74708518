"""A copy_up whose caller is being killed ends early, and as if it had never begun."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.layers import Layers
from tests.helpers.mounts import require_root
from tests.helpers.unions import core, nodeid
from unionfs import interrupts
from unionfs.interrupts import Caller, is_interrupted, stop_if_abandoned, working_for


def test_only_a_killed_caller_counts() -> None:
    """A stopped child stands for a process that waits in the kernel."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        caller = Caller(child.pid)
        caller.interrupted = True
        assert not caller.is_killed()
    finally:
        child.kill()
        child.wait()
    assert not caller.is_killed()  # gone, and its number may be another's
    with working_for(caller):
        assert is_interrupted()
        stop_if_abandoned()
    assert not is_interrupted()
    stop_if_abandoned()


def test_a_caller_whose_interrupt_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    looks = []

    def is_ending(_: Caller) -> bool:
        looks.append(now[0])
        return True

    monkeypatch.setattr(interrupts, "monotonic", lambda: now[0])
    monkeypatch.setattr(Caller, "is_ending", is_ending)
    caller = Caller(1)
    found = []
    for now[0] in (100.0, 100.5, 101.5, 101.6, 103.0):
        found.append(caller.is_killed())
    assert found == [False, False, True, False, True]
    assert looks == [101.5, 103.0]  # each look opens a file


def test_a_copy_up_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    layers = Layers(tmp_path, {"file": bytes(range(256)) * 4096})
    with layers.union() as tree:
        monkeypatch.setattr(Caller, "is_killed", lambda self: True)
        with working_for(Caller(1)), pytest.raises(OSError) as caught:
            core(tree).open(nodeid(tree, b"file"), os.O_RDWR)
        assert caught.value.errno == errno.EINTR
        del caught  # its traceback holds fds
        assert os.listdir(layers.upper) == []
        core(tree).release(core(tree).open(nodeid(tree, b"file"), os.O_RDWR))
        assert (layers.upper / "file").stat().st_size == 1 << 20
