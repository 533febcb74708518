"""What layers are kept for, and the archives that are kept with them."""

from __future__ import annotations

from layerstore import Store
from tests.helpers.images import add_image, add_layer, some_digest

BASE, TOP = {"etc/motd": b"hello"}, {"etc/motd": b"bye"}


def test_what_is_the_topmost_of_an_image_a_container_and_a_lease(store: Store) -> None:
    image = add_image(store, BASE, TOP)
    top = store.layers.chain(image.top)[0]
    uses = store.layers.uses
    assert top.parent is not None
    assert uses.is_top(top.chain_id) and not uses.is_top(top.parent)
    assert uses.needed() == uses.tops() == {top.chain_id}
    container = store.containers.create(image)
    store.images.remove(image.id, force=True)
    assert uses.needed() == {top.chain_id} and uses.is_top(top.chain_id)
    store.containers.remove(container)
    assert uses.needed() == set() and uses.builds() == []
    other = add_layer(store, None, BASE)
    with store.leases.lease("work", "test"):
        assert store.layers.need(other.chain_id) == other
        assert uses.needed() == {other.chain_id} and not uses.is_top(other.chain_id)


def test_blobs_a_layer_came_from(store: Store) -> None:
    layer = add_layer(store, None, BASE)
    blob = some_digest("blob")
    for _ in range(2):
        store.layers.archives.add(layer.diff_id, blob, "application/x", 7)
    archives = store.layers.archives
    (found,) = store.layers.archives.of(layer.diff_id)
    assert (found.digest, found.media_type, found.size) == (blob, "application/x", 7)
    assert archives.has(blob) and not archives.has(some_digest("other"))
    assert archives.users() == {blob: layer.chain_id}
