"""Layers: published whole, shared, adopted where they are, collected when nobody needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore import Digest, Store
from layerstore.errors import NotFound
from layerstore.oci.digest import chain_id
from tests.helpers.images import add_image, add_layer, diff_id, some_digest

BASE = {"etc/motd": b"hello", "bin/sh": b"#!"}
TOP = {"etc/motd": b"bye"}


def test_published_layer_is_at_its_chain_id(store: Store) -> None:
    base = add_layer(store, None, BASE)
    top = add_layer(store, base.chain_id, TOP)
    assert base.chain_id == base.diff_id == diff_id(BASE)
    assert top.chain_id == chain_id(base.chain_id, diff_id(TOP))
    assert top.path == store.root / "layers" / top.chain_id.encoded
    assert (base.diff / "etc/motd").read_text() == "hello" and base.size == 7
    assert store.layers.chain(top.chain_id) == [top, base]
    assert store.layers.chain(None) == []
    assert {layer.chain_id for layer in store.layers.all()} == {base.chain_id, top.chain_id}
    assert base.diff.stat().st_mode & 0o777 == 0o755


def test_same_layer_is_held_once(store: Store) -> None:
    first = add_layer(store, None, BASE)
    inode = first.diff.stat().st_ino
    assert add_layer(store, None, BASE) == first
    assert first.diff.stat().st_ino == inode
    assert len(os.listdir(store.root / "layers")) == 1


def test_layer_of_an_unknown_parent_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="no such layer"):
        add_layer(store, some_digest("parent"), TOP)
    assert store.layers.all() == [] and os.listdir(store.root / "layers") == []


def test_what_is_not_published_goes(store: Store) -> None:
    with store.layers.stage() as staging:
        (staging.diff / "f").touch()
    assert os.listdir(store.root / "layers") == []


def test_directory_without_a_row_is_replaced(store: Store) -> None:
    stray = store.root / "layers" / diff_id(BASE).encoded
    (stray / "diff" / "half").mkdir(parents=True)
    assert store.layers.strays() == [diff_id(BASE).encoded]
    assert store.layers.find(diff_id(BASE)) is None
    layer = add_layer(store, None, BASE)
    assert sorted(os.listdir(layer.diff)) == ["bin", "etc"] and store.layers.strays() == []


def test_layer_that_lost_its_files_is_made_whole_by_the_next(store: Store) -> None:
    layer = add_layer(store, None, BASE)
    top = add_layer(store, layer.chain_id, TOP)
    assert store.layers.exists(layer.chain_id)
    os.rename(layer.path, store.root / "elsewhere")
    assert store.layers.find(layer.chain_id) is None
    assert not store.layers.exists(layer.chain_id)
    assert not store.layers.exists(some_digest("none"))
    with pytest.raises(NotFound, match=r"lost its files; `pyunion check`"):
        store.layers.chain(top.chain_id)
    assert add_layer(store, None, BASE) == layer
    assert store.layers.chain(top.chain_id) == [top, layer]


def test_layer_in_use_stays(store: Store) -> None:
    image = add_image(store, BASE)
    assert image.top is not None
    assert store.layers.free(image.top).layers == []
    assert store.layers.get(image.top).diff.is_dir()


def test_freed_layer_is_gone(store: Store) -> None:
    layer = add_layer(store, None, BASE)
    with store.leases.lease("work", "test"):
        assert store.layers.free(layer.chain_id).layers == [layer]
        store.layers.collect([layer.chain_id])
    assert store.layers.find(layer.chain_id) is None and not layer.path.exists()


def test_layer_found_is_kept_for_the_work_under_way(store: Store) -> None:
    layer = add_layer(store, None, BASE)
    with store.leases.lease("work", "test"):
        assert store.layers.need(layer.chain_id) == layer
        assert store.layers.need(some_digest("never")) is None
        assert store.layers.free(layer.chain_id).layers == []
        assert store.layers.unneeded() == []
    assert store.layers.unneeded() == [layer.chain_id]


# -- adoption, as a commit does it --


def frozen(store: Store, number: int = 1) -> Path:
    location = store.root / "containers" / "c" / "layers" / str(number)
    (location / "diff").mkdir(parents=True)
    (location / "diff" / "f").write_text("frozen")
    return location


def adopt(store: Store, location: Path, parent: Digest | None = None) -> Digest:
    with store.database.transaction():
        return store.layers.adopt(location, parent, some_digest("frozen"), 6).chain_id


def test_adopted_layer_is_whole_where_it_is_and_where_it_goes(store: Store) -> None:
    location = frozen(store)
    chain = adopt(store, location)
    assert store.layers.get(chain).path == location
    assert store.layers.exists(chain)
    assert store.layers.strays() == []
    (moved,) = store.layers.settle()
    assert moved.path == store.root / "layers" / chain.encoded and not location.exists()
    assert (moved.diff / "f").read_text() == "frozen"
    assert store.layers.settle() == [] and store.layers.get(chain) == moved


def test_adoption_is_part_of_the_callers_transaction(store: Store) -> None:
    location = frozen(store)
    with pytest.raises(KeyError), store.database.transaction():
        store.layers.adopt(location, None, some_digest("frozen"), 6)
        raise KeyError
    assert store.layers.all() == [] and location.exists()


def test_settling_cut_short_after_its_rename_is_finished(store: Store) -> None:
    location = frozen(store)
    chain = adopt(store, location)
    os.rename(location, store.root / "layers" / chain.encoded)
    assert store.layers.get(chain).path == store.root / "layers" / chain.encoded
    assert store.layers.exists(chain)
    (moved,) = store.layers.settle()
    assert moved.chain_id == chain
    assert store.database.read("SELECT location FROM layers") == [(None,)]


def test_adopting_what_is_there_already_leaves_the_tree_to_its_owner(store: Store) -> None:
    first = adopt(store, frozen(store))
    store.layers.settle()
    again = frozen(store, 2)
    assert adopt(store, again) == first
    assert store.layers.settle() == [] and again.exists()


def test_adopting_replaces_what_has_no_row(store: Store) -> None:
    stray = store.root / "layers" / some_digest("frozen").encoded
    (stray / "diff").mkdir(parents=True)
    chain = adopt(store, frozen(store))
    assert (store.layers.get(chain).diff / "f").exists()
    (moved,) = store.layers.settle()
    assert (moved.diff / "f").exists()
