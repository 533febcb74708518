"""The containers of stages, also of builders that were killed."""

from __future__ import annotations

import threading

import pytest

from layerstore import Store
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


def test_a_sweep_waits_for_what_is_being_recorded(store: Store) -> None:
    image = store.images.resolve("busy:1")
    made = new_container(store, image.top, image.id, "busy:1", {})
    store.containers.finished(made, 1)
    lock = store.containers.lock(made)
    lock.__enter__()
    swept = threading.Thread(target=sweep, args=(store,))
    swept.start()
    assert store.containers.get(made.id).id == made.id
    lock.__exit__(None, None, None)
    swept.join()
    assert store.containers.list() == []
