"""The processes of a stage: that they end, whichever of them is killed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerstore import Store
from layerstore.errors import Busy, StoreError
from layerstore.operations.check import check
from mount_tools.build.run_step import run_step
from mount_tools.build.stage_mount import Surface
from mount_tools.build.stage_process import StageProcess
from mount_tools.container.process import Launch
from tests.helpers.mounts import wait_until
from tests.helpers.stages import run_stage, sh


@pytest.mark.parametrize("victim", ["_stage", "_packer"])
def test_a_killed_process_ends_the_stage(store: Store, victim: str) -> None:
    def look(process: StageProcess) -> None:
        os.kill(getattr(process, victim), signal.SIGKILL)
        process.kill()

    ran = run_stage(store, [sh("echo > /a"), sh("echo begun; sleep 1000")], look=look)
    assert ran.broke is None
    store.containers.remove(store.containers.get(ran.container.id))
    assert check(store, content=True) == []


def test_a_packer_that_is_killed_before_its_lease_is_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    monkeypatch.setattr("mount_tools.build.stage_process.run_packer", die)
    with pytest.raises(StoreError, match="packs the layers of a stage was killed"):
        run_stage(store, [sh("true")])
    assert store.containers.list() == []


def commands() -> list[bytes]:
    """Return the command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes())
    return found


@pytest.mark.parametrize("of_kernel", [True, False])
def test_a_program_with_the_setuid_bit_ends_with_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, of_kernel: bool
) -> None:
    """The kernel forgets that such a process is to end with its parent."""
    if not of_kernel:
        monkeypatch.setattr("mount_tools.build.stage_mount.is_possible", lambda *_: False)
    words = ("/sleep", "98765")
    line = b"\0".join(word.encode() for word in words)

    def sleep(stage: Surface, output: int) -> None:
        os.write(output, b"begun")
        run_step(stage.plan, stage.root, Launch(words, (), "/", "bob"), (), output, network=True)

    def look(process: StageProcess) -> None:
        wait_until(lambda: any(line in one for one in commands()), "it to run")
        process.kill()

    run_stage(store, [sh("cp /bin/busybox /sleep; chmod 4755 /sleep"), sleep], look=look)
    assert not any(line in one for one in commands())


def test_a_stage_counts_as_running_as_long_as_its_process(store: Store) -> None:
    seen = []

    def look(process: StageProcess) -> None:
        seen.append(store.containers.get(process.container.id).running)

    ran = run_stage(store, [sh("echo begun")], look=look)
    assert seen == [True] and not ran.container.running


def test_a_stage_that_cannot_be_mounted_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreError("no mount today")

    monkeypatch.setattr("mount_tools.build.stage_process.prepare_stage", refuse)
    with pytest.raises(StoreError, match="no mount today"):
        run_stage(store, [sh("true")])
    assert store.containers.list() == []
    assert check(store, content=True) == []


def test_an_end_that_is_interrupted_lets_go_of_the_container(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a second Ctrl-C, say.  To remove the container, its lock is taken once more."""
    monkeypatch.setattr(
        "mount_tools.build.stage_process.ended_within", Mock(side_effect=KeyboardInterrupt)
    )
    processes: list[StageProcess] = []
    with pytest.raises(KeyboardInterrupt):
        run_stage(store, [sh("echo begun")], look=processes.append)
    (container,) = (process.container for process in processes)

    def unlocked() -> bool:
        with suppress(Busy), store.containers.lock(container, wait=False):
            return True
        return False

    wait_until(unlocked, "the packer, which has the lock too, to end")
