"""The build cache: what it keeps, and what a removal and a prune leave of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.build.cache import BuildCache, StepRow
from layerstore.build.source_digest import Digester
from layerstore.build.tree import Tree
from layerstore.db.build_table import FileDigests
from layerstore.oci.digest import Digest
from layerstore.operations import gc
from tests.helpers.images import add_image
from tests.layerstore.build.mini_build import written
from tests.layerstore.build.test_source_digest import age

A, B, C = {"a": b"1"}, {"b": b"x" * 20}, {"c": b"y" * 300}


@pytest.fixture
def cache(store: Store) -> BuildCache:
    return BuildCache(store)


def chains(store: Store, *layers: dict[str, bytes], name: str = "built") -> list[Digest]:
    """Make an image with these layers; return its chain_ids, the base first."""
    image = add_image(store, *layers, names=[name])
    return list(store.images.config(image).chain)


def step(chain: Digest | None, created_ns: int = 5) -> StepRow:
    return StepRow(created_ns, "RUN x", None, chain)


def test_a_step_is_found_while_its_layers_are_there(store: Store, cache: BuildCache) -> None:
    base, top = chains(store, A, B)
    cache.keep("1", step(base))
    cache.keep("2", step(top))
    cache.keep("0", step(None))
    assert [cache.find(key) for key in "012"] == [step(None), step(base), step(top)]
    assert cache.find("3") is None


def test_a_removed_image_leaves_the_layers_of_its_steps(store: Store, cache: BuildCache) -> None:
    base, top = chains(store, A, B)
    cache.keep("1", step(base))
    removal = store.images.remove("built")
    assert cache.find("1") == step(base)
    assert store.layers.find(top) is None
    assert removal


def test_prune_removes_the_steps_that_no_image_needs(store: Store, cache: BuildCache) -> None:
    (kept,) = chains(store, A, name="kept")
    _, top = chains(store, B, C)
    cache.keep("kept", step(kept))
    cache.keep("gone", step(top))
    store.images.remove("built")
    dry = gc.prune(store, dry_run=True)
    assert cache.find("gone") is not None
    pruned = gc.prune(store)
    assert pruned.freed == dry.freed == 320
    assert cache.find("gone") is None
    assert cache.find("kept") is not None
    assert len(os.listdir(store.root / "layers")) == 1


def test_prune_of_all_removes_every_step(store: Store, cache: BuildCache) -> None:
    (base,) = chains(store, A)
    image = store.images.resolve("built")
    store.containers.create(image, name="box")
    cache.keep("1", step(base))
    gc.prune(store, all_unused=True)
    assert cache.find("1") is None or store.layers.find(base) is not None


def test_prune_of_images_alone_leaves_the_cache(store: Store, cache: BuildCache) -> None:
    (base,) = chains(store, A)
    cache.keep("1", step(base))
    store.images.remove("built")
    gc.prune_images(store, all_unused=True)
    assert cache.find("1") == step(base)


def test_prune_until_leaves_newer_steps(store: Store, cache: BuildCache) -> None:
    (base,) = chains(store, A)
    cache.keep("old", step(base, 5))
    cache.keep("new", step(base, 50))
    store.images.remove("built")
    gc.prune(store, gc.Which(until_ns=10))
    assert cache.find("old") is None
    assert cache.find("new") is not None


def test_a_step_that_is_held_outlives_a_prune(store: Store, cache: BuildCache) -> None:
    (base,) = chains(store, A)
    cache.keep("1", step(base))
    store.images.remove("built")
    with store.leases.lease("work", "build"):
        assert cache.hold(base)
        assert cache.hold(None)
        with Store.open(store.root, sync=False) as other:
            gc.prune(other, all_unused=True)
        assert store.layers.find(base) is not None
    gc.prune(store, all_unused=True)
    assert store.layers.find(base) is None
    with store.leases.lease("work", "build"):
        assert not cache.hold(base)


def test_layers_that_were_lost_are_not_found(store: Store, cache: BuildCache) -> None:
    (base,) = chains(store, A)
    cache.keep("1", step(base))
    place = store.layers.get(base).path
    os.rename(place, place.with_name("lost"))
    assert cache.find("1") is None
    os.rename(place.with_name("lost"), place)


def test_digests_of_files_are_remembered(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(monkeypatch)
    root = written(tmp_path / "context", {"d/f": "content"})
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = Tree(fd)
        memo = FileDigests(store.database)
        first = Digester(tree, memo).directory(tree.walk("d"))
        memo.flush()
        assert store.database.first(int, "SELECT count(*) FROM file_digests") == 1
        monkeypatch.setattr(os, "read", None)
        memo = FileDigests(store.database)
        assert Digester(tree, memo).directory(tree.walk("d")) == first
    finally:
        os.close(fd)
