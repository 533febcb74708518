"""An upper whose last mount is being written back is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount_tools.daemon import handover
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import (
    DEADLINE,
    helper_command,
    helper_environment,
    require_fuse,
    run,
    unmount_command,
)
from tests.helpers.processes import ending

HOLDER = """
import fcntl, os, sys
from mount_tools.daemon import handover
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("locked", flush=True)
if sys.stdin.readline() == "closing\\n":
    with handover.announced_closing([os.fsencode(sys.argv[1]), b"/no/such"]):
        print("told", flush=True)
        sys.stdin.read()
"""


class Holder:
    """A process that holds the lock on a directory."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, directory],
            env=helper_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.answer()

    def answer(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def announce_closing(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"closing\n")
        self.process.stdin.flush()
        assert self.answer() == b"told\n"

    def end(self) -> None:
        self.process.communicate(timeout=DEADLINE)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    holder = Holder(tmp_path)
    with ending(holder.process):
        yield holder


def seconds_waited(directory: Path) -> float:
    start = time.monotonic()
    handover.await_predecessor(os.fsencode(directory))
    return time.monotonic() - start


def test_free_and_impossible_directories_are_not_waited_for(tmp_path: Path) -> None:
    assert seconds_waited(tmp_path) < handover.GRACE / 2
    assert seconds_waited(tmp_path / "absent") < handover.GRACE / 2


def test_a_living_mount_is_not_waited_for_long(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "GRACE", 0.1)
    assert 0.1 <= seconds_waited(tmp_path) < handover.PATIENCE / 2


def test_a_closing_one_is(tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    holder.announce_closing()
    monkeypatch.setattr(handover, "GRACE", 0.0)
    looks = 0

    def look(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 20:
            holder.end()

    monkeypatch.setattr(time, "sleep", look)
    handover.await_predecessor(os.fsencode(tmp_path))
    assert looks >= 20


def test_an_announcement_ends_with_its_block(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path)
    fd = os.open(directory, os.O_RDONLY)
    try:
        with handover.announced_closing([directory]):
            assert handover.is_closing(fd)
            assert not handover.is_locked(fd)
        assert not handover.is_closing(fd)
    finally:
        os.close(fd)


def test_but_not_for_ever(tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    holder.announce_closing()
    monkeypatch.setattr(handover, "GRACE", 0.0)
    monkeypatch.setattr(handover, "PATIENCE", 0.1)
    assert seconds_waited(tmp_path) >= 0.1


def test_unmounting_and_mounting_at_once(layers: MountLayers) -> None:
    require_fuse()
    for _ in range(4):
        run(*helper_command("-o", layers.words, layers.merged), env=helper_environment())
        run(*unmount_command(), layers.merged)
