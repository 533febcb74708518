"""Layers on their way in: several at a time, by several threads and processes."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.errors import NotFound
from layerstore.oci.digest import Digest
from layerstore.oci.reference import Reference
from layerstore.operations.check import check
from layerstore.progress import Progress, Status
from tests.helpers.mounts import DEADLINE
from tests.helpers.registries import LAYERS, REPOSITORY, MemoryRegistry, plain_layer
from tests.layerstore.archives import file, folder, whole
from tests.layerstore.registry.test_pull import pull

NAME = Reference(REPOSITORY, "latest")


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


def is_clean(store: Store) -> bool:
    return check(store) == []


def nothing_is_left(store: Store) -> bool:
    store.recover()
    return not store.layers.all() and not list(store.blobs.all()) and is_clean(store)


def test_one_blob_may_be_several_layers(store: Store, registry: MemoryRegistry) -> None:
    same = plain_layer(1)
    registry.image(same, plain_layer(2), same, same)
    image = store.images.get(pull(store, registry).image)
    assert len(store.layers.chain(image.top)) == 4 and is_clean(store)


def test_a_directory_that_is_implied_is_as_in_the_layer_beneath(
    store: Store, registry: MemoryRegistry
) -> None:
    base = whole(folder(b"etc", uid=5, gid=6), file(b"etc/a", b"x"))
    registry.image(base, *[whole(file(b"etc/%d" % n, b"y")) for n in range(5)])
    image = store.images.get(pull(store, registry).image)
    for layer in store.layers.chain(image.top):
        found = (layer.diff / "etc").stat()
        assert (found.st_uid, found.st_gid) == (5, 6) or os.geteuid()


def test_two_pulls_fetch_a_layer_once(store: Store, registry: MemoryRegistry) -> None:
    registry.image(*LAYERS)
    both = threading.Barrier(2)
    opened: list[Digest] = []
    registry.on_open = lambda descriptor: opened.append(descriptor.digest)
    errors: list[BaseException] = []

    def one(path: Path) -> None:
        try:
            with Store.open(path, sync=False) as own:
                both.wait(DEADLINE)
                pull(own, registry)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(store.root,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    layers = [digest for digest in opened if digest != store.images.all()[0].id]
    assert len(layers) == len(set(layers)) == len(LAYERS)
    assert is_clean(store)
    assert [path.name for path in store.partial.all()] == []


def test_a_pull_that_fails_ends_the_others(store: Store, registry: MemoryRegistry) -> None:
    kept = registry.image(*[plain_layer(n, 50_000) for n in range(12)])
    digest = json.loads(kept.data)["layers"][5]["digest"]
    del registry.blobs[digest]
    with pytest.raises(NotFound, match=digest):
        pull(store, registry)
    assert nothing_is_left(store)
    alive = [thread.name for thread in threading.enumerate()]
    assert not [name for name in alive if name.startswith(("pull", "unpack", "tar"))]


def test_events_tell_each_layer_from_begin_to_end(store: Store, registry: MemoryRegistry) -> None:
    registry.image(*LAYERS)
    events: list[Progress] = []
    pull(store, registry, report=events.append, parallel=1)
    assert events[0] == Progress("latest", Status.PULLING_FROM, note="team/app", parent=str(NAME))
    assert events[-1].status is Status.DIGEST
    assert {event.parent for event in events} == {str(NAME)}
    first = events[1].what
    told = list(dict.fromkeys(event.status for event in events if event.what == first))
    assert told[0] is Status.PULLING and told[-1] is Status.PULLED
    assert told.index(Status.VERIFYING) < told.index(Status.DOWNLOADED)
    waiting = [event for event in events if event.status is Status.WAITING]
    assert len(waiting) == 3
