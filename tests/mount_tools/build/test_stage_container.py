"""The containers of stages, also of builders that were killed."""

from __future__ import annotations

from layerstore import Store
from mount_tools.build.stage_container import new_container, sweep


def test_the_containers_of_dead_builders_are_swept(store: Store) -> None:
    image = store.images.resolve("busy:1")
    left = new_container(store, image.top, image.id, "busy:1", {})
    used = new_container(store, image.top, image.id, "busy:1", {})
    kept = new_container(store, image.top, image.id, "busy:1", {})
    store.containers.update(kept, auto_remove=0)
    with store.containers.lock(used):
        sweep(store)
    names = {container.id for container in store.containers.list()}
    assert names == {used.id, kept.id} and left.id not in names
