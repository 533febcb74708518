"""The containers of stages, also of builders that were killed."""

from __future__ import annotations

import os
import subprocess
import threading
from threading import Event

import pytest

from layerstore import Store
from mount_tools.build import stage_container
from mount_tools.build.stage_container import new_container, sweep


def test_the_containers_of_dead_builders_are_swept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = store.images.resolve("busy:1")
    monkeypatch.setattr("mount_tools.build.stage_container.SECONDS_TO_RECORD", 0.01)
    left = new_container(store, image.top, image.id, "busy:1", {})
    used = new_container(store, image.top, image.id, "busy:1", {})
    kept = new_container(store, image.top, image.id, "busy:1", {})
    store.containers.update(kept, auto_remove=0)
    with store.containers.lock(used):
        sweep(store)
    names = {container.id for container in store.containers.list()}
    assert names == {used.id, kept.id} and left.id not in names


def test_a_container_that_another_builder_has_just_made_stays(store: Store) -> None:
    image = store.images.resolve("busy:1")
    with store.leases.lease("work", "build"):
        made = new_container(store, image.top, image.id, "busy:1", {})
        sweep(store)
        assert store.containers.get(made.id).status == "created"
    sweep(store)
    assert store.containers.list() == []


def test_a_sweep_waits_for_what_is_being_recorded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_container, "_SECONDS_TO_SAY", 0.05)
    image = store.images.resolve("busy:1")
    made = new_container(store, image.top, image.id, "busy:1", {})
    store.containers.finished(made, 1)
    lock = store.containers.lock(made)
    lock.__enter__()
    noted = Event()
    swept = threading.Thread(target=sweep, args=(store, lambda _: noted.set()))
    swept.start()
    assert noted.wait(10), "the user is told what takes so long"
    assert store.containers.get(made.id).id == made.id
    lock.__exit__(None, None, None)
    swept.join()
    assert store.containers.list() == []


def test_a_sweep_waits_for_the_stage_of_a_dead_builder_to_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel ends it with its builder, but it takes its time: its command ends before it."""
    image = store.images.resolve("busy:1")
    made = new_container(store, image.top, image.id, "busy:1", {})
    with subprocess.Popen(["sleep", "1000"]) as stage:
        store.containers.started(made, stage.pid)
        store.containers.update(made, runner=None, runner_start=None)  # it is dead

        def end(seconds: float) -> None:
            stage.kill()
            stage.wait()

        monkeypatch.setattr("mount_tools.build.stage_container.time.sleep", end)
        sweep(store)
        monkeypatch.undo()
        waited = stage.returncode is not None
        stage.kill()
    assert waited and store.containers.list() == []


def test_a_container_of_the_user_is_none_of_a_builder(store: Store) -> None:
    """Not even with such a name."""
    image = store.images.resolve("busy:1")
    made = store.containers.create(
        image, name="build-0123456789", config={"Cmd": ["true"]}, auto_remove=True
    )
    store.containers.started(made, os.getpid())
    sweep(store)
    store.containers.finished(made, 0)
    sweep(store)
    assert store.containers.get(made.id).name == "build-0123456789"
