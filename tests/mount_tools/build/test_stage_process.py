"""The processes of a stage: that they end, whichever of them is killed."""

from __future__ import annotations

import os
import signal

import pytest

from layerstore import Store
from layerstore.errors import StoreError
from layerstore.operations.check import examine
from mount_tools.build.stage_process import StageProcess
from tests.helpers.stages import run_stage, sh


@pytest.mark.parametrize("victim", ["_stage", "_packer"])
def test_a_killed_process_ends_the_stage(store: Store, victim: str) -> None:
    def look(process: StageProcess) -> None:
        os.kill(getattr(process, victim), signal.SIGKILL)
        process.kill()

    ran = run_stage(store, [sh("echo > /a"), sh("echo begun; sleep 1000")], look=look)
    assert ran.broke is None
    store.containers.remove(store.containers.get(ran.container.id))
    assert list(examine(store, content=True)) == []


def test_it_runs_as_long_as_its_process(store: Store) -> None:
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
    assert list(examine(store, content=True)) == []
