"""What the store's content weighs, and who shares it."""

from __future__ import annotations

from layerstore import Store
from layerstore.db.build_table import BuildTable, StepRow
from layerstore.operations.disk_usage import LayerNode, layer_forest, usage
from tests.helpers.images import add_image

A, B, C = {"a": b"1"}, {"b": b"22"}, {"c": b"333"}


def test_shared_layers_count_once(store: Store) -> None:
    base = add_image(store, A, names=["base"])
    one = add_image(store, A, B, names=["one"])
    other = add_image(store, C, names=["other"])
    container = store.containers.create(one, name="box")
    (container.upper / "f").write_bytes(b"x" * 50)
    found = usage(store)
    by_id = {entry.image.id: entry for entry in found.images}
    assert (by_id[base.id].shared, by_id[base.id].unique) == (1, 0)
    assert (by_id[one.id].shared, by_id[one.id].unique, by_id[one.id].size) == (1, 2, 3)
    assert (by_id[other.id].shared, by_id[other.id].unique) == (0, 3)
    assert [by_id[i.id].containers for i in (base, one, other)] == [0, 1, 0]
    assert found.layers_size == 6 and found.images_active == 1
    assert found.images_reclaimable == 3, "what the container stands on is in use"
    (box,) = found.containers
    assert box.size == 50
    assert (found.containers_size, found.containers_reclaimable) == (50, 50)
    assert found.containers_active == 0
    assert found.blobs_size == sum(store.blobs.size(i.id) for i in (base, one, other))


def test_layers_of_the_build_cache_alone_are_told_apart(store: Store) -> None:
    add_image(store, A, names=["kept"])
    gone = add_image(store, A, B, C, names=["gone"])
    base, middle, top = store.images.config(gone).chain
    cache = BuildTable(store.database)
    for number, chain in enumerate([None, base, middle, top]):
        cache.keep(str(number), StepRow(1, "RUN x", None, chain))
    store.images.remove("gone")
    found = usage(store)
    assert (found.layers_size, found.builds_size) == (1, 5)
    assert (found.builds, found.builds_active) == (4, 1)
    assert found.images_reclaimable == 1


def test_empty_store_weighs_nothing(store: Store) -> None:
    found = usage(store)
    assert (found.images, found.containers, found.layers_size) == ([], [], 0)


def test_tree_of_layers(store: Store) -> None:
    base = add_image(store, A, names=["base"])
    one = add_image(store, A, B)
    two = add_image(store, A, C)
    deep = add_image(store, A, C, B)
    store.containers.create(base, name="box")
    (root,) = layer_forest(store)
    assert root.layer.chain_id == base.top and root.users == 4
    assert [image.id for image in root.images] == [base.id]
    assert [container.name for container in root.containers] == ["box"]

    def shape(node: LayerNode) -> tuple[str, int]:
        return node.layer.chain_id, node.users

    assert {shape(node) for node in root.above} == {(one.top, 1), (two.top, 2)}
    (top,) = next(node for node in root.above if node.layer.chain_id == two.top).above
    assert [image.id for image in top.images] == [deep.id]
