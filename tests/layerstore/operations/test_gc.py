"""Collecting: what prune removes and spares, what it says, and that a dry run says the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore import Image, Store
from layerstore.build_caches import claimed
from layerstore.operations import gc
from layerstore.operations.disk_usage import usage
from tests.helpers.images import add_image, add_layer, some_digest

A, B, C, D = {"a": b"1"}, {"b": b"x" * 20}, {"c": b"y" * 300}, {"d": b"z" * 4000}


@pytest.fixture
def images(store: Store) -> dict[str, Image]:
    """A named image, one in use, a dangling one over a nameless parent, one with a digest only."""
    parent = add_image(store, A, B, created="2024-01-02T00:00:00Z")
    made = {
        "named": add_image(store, A, names=["x:1", "y:1"], created="2024-01-01T00:00:00Z"),
        "parent": parent,
        "dangling": add_image(store, A, B, C, parent=parent.id, created="2024-01-03T00:00:00Z"),
        "used": add_image(store, D, created="2024-01-04T00:00:00Z"),
        "digest": add_image(store, A, D, config={"Labels": {"keep": "yes"}}),
    }
    store.images.add_repo_digest(made["digest"], "docker.io/library/z", some_digest("m"))
    store.containers.create(made["used"], name="box")
    return made


def left(store: Store, images: dict[str, Image]) -> set[str]:
    there = {image.id for image in store.images.all()}
    return {name for name, image in images.items() if image.id in there}


def snapshot(root: Path) -> list[str]:
    return sorted(str(path) for path in root.rglob("*") if not path.name.startswith("store.db"))


def test_dangling_images_go_with_their_nameless_parents(
    store: Store, images: dict[str, Image]
) -> None:
    pruned = gc.prune_images(store)
    assert left(store, images) == {"named", "used"}
    texts = [line.text for line in pruned.images]
    assert f"z@{some_digest('m')}" in texts and "x:1" not in texts
    assert pruned.freed == 20 + 300 + 4000
    assert len(os.listdir(store.root / "layers")) == 2


def test_all_that_no_container_uses(store: Store, images: dict[str, Image]) -> None:
    pruned = gc.prune_images(store, all_unused=True)
    assert left(store, images) == {"used"}
    assert {"x:1", "y:1"} <= {line.text for line in pruned.images if line.what == "Untagged"}


@pytest.mark.parametrize("all_unused", [False, True])
def test_dry_run_says_the_same_and_does_nothing(
    store: Store, images: dict[str, Image], all_unused: bool
) -> None:
    before = snapshot(store.root)
    rehearsed = gc.prune_images(store, all_unused=all_unused, dry_run=True)
    assert snapshot(store.root) == before and len(left(store, images)) == 5
    assert gc.prune_images(store, all_unused=all_unused) == rehearsed


def test_newer_images_are_spared(store: Store, images: dict[str, Image]) -> None:
    gc.prune_images(store, all_unused=True, which=gc.Which(images["named"].created_ns))
    assert left(store, images) == {"parent", "dangling", "used", "digest"}


def test_labels_choose(store: Store, images: dict[str, Image]) -> None:
    gc.prune_images(store, gc.Which(without=(("keep", None),)))
    assert "digest" in left(store, images) and "dangling" not in left(store, images)
    for labels in ((("keep", "no"),), (("keep", "y*"),), (("keep", "no"), ("keep", "yes"))):
        gc.prune_images(store, gc.Which(labels=labels))
        assert "digest" in left(store, images)
    gc.prune_images(store, gc.Which(labels=(("keep", "yes"),)))
    assert "digest" not in left(store, images)


def test_layers_of_nobody_go(store: Store) -> None:
    base = add_layer(store, None, A)
    top = add_layer(store, base.chain_id, B)
    pruned = gc.prune_images(store)
    assert [line.text for line in pruned.images] == [top.chain_id, base.chain_id]
    assert pruned.freed == 21 and os.listdir(store.root / "layers") == []


def test_stopped_containers_go(store: Store, images: dict[str, Image]) -> None:
    store.images.remove(images["used"].id.short, force=True)
    running = store.containers.create(images["named"], name="running")
    store.containers.started(running, os.getpid())
    stopped = store.containers.resolve("box")
    (stopped.upper / "f").write_bytes(b"x" * 77)
    rehearsed = gc.prune_containers(store, dry_run=True)
    assert (rehearsed.containers, rehearsed.freed) == ([stopped.id], 77)
    assert gc.prune_containers(store, gc.Which(stopped.created_ns - 1)).containers == []
    assert gc.prune_containers(store) == rehearsed
    assert [container.name for container in store.containers.list()] == ["running"]


def test_collect_takes_what_nothing_needs_and_no_image(
    store: Store, images: dict[str, Image]
) -> None:
    before = snapshot(store.root)
    (store.root / "staging" / "left").mkdir()
    store.blobs.put(b"of nobody")
    layer = add_layer(store, images["named"].top, C)
    collected = gc.collect(store)
    assert [line.text for line in collected.images] == [layer.chain_id]
    assert snapshot(store.root) == before


def test_work_under_way_is_spared(store: Store) -> None:
    with store.leases.lease("work", "load"):
        layer = add_layer(store, None, A)
        blob = store.blobs.put(b"x")
        gc.collect(store)
        gc.prune_images(store, all_unused=True)
        assert store.layers.find(layer.chain_id) == layer and store.blobs.has(blob)
    gc.collect(store)
    assert store.layers.find(layer.chain_id) is None and not store.blobs.has(blob)


@pytest.mark.parametrize("used", [False, True])
def test_work_grows_with_the_names_of_an_image_and_not_with_their_square(
    store: Store, used: bool
) -> None:
    steps = []
    for count in (100, 400):
        image = add_image(store, {str(count): b"1"}, names=[f"r{count}:0"])
        with store.database.transaction():
            for number in range(count):
                store.images.tag(image, f"r{count + number % 20}:t{number}")
        if used:
            store.containers.create(image)
        done = 0

        def count_steps() -> int:
            nonlocal done
            done += 1
            return 0

        store.database.connection.set_progress_handler(count_steps, 100)
        gc.prune_images(store, all_unused=True)
        steps.append(done)
        assert len(store.images.all()) == used * len(steps)
    assert steps[1] < 6 * steps[0]


def test_caches_of_builds_go_with_all_that_is_unused(store: Store) -> None:
    with claimed(store.build_caches, "/c", "shared") as cache:
        cache.mkdir()
        (cache / "file").write_bytes(b"x" * 1000)
    assert usage(store).builds_size == 1000
    assert gc.prune(store).freed == 0
    assert gc.prune(store, all_unused=True, dry_run=True).freed == 1000
    assert gc.prune(store, all_unused=True).freed == 1000
    assert usage(store).builds_size == 0
