"""The rows of what is known of layers in registries."""

from __future__ import annotations

import pytest

from layerstore import Digest, Store
from layerstore.db.layer_table import LayerRow, LayerTable
from layerstore.db.remote_table import PackedRow, RemoteTable
from tests.helpers.images import some_digest

ONE, OTHER = "docker.io/library/x", "host:5000/y"


@pytest.fixture
def diff_id(store: Store) -> Digest:
    """The diff_id of a layer that the store has."""
    LayerTable(store.database).put(LayerRow(some_digest("l"), None, some_digest("d"), 7, None))
    return some_digest("d")


@pytest.fixture
def table(store: Store) -> RemoteTable:
    return RemoteTable(store.database)


def test_a_packed_layer_is_remembered(table: RemoteTable, diff_id: Digest) -> None:
    row = PackedRow(diff_id, some_digest("blob"), "tar+gzip", 99, "gzip:2")
    table.add_packed(row)
    table.add_packed(row._replace(compression="gzip:1"))
    assert table.packed(diff_id) == [row._replace(compression="gzip:1")]
    assert table.packed(some_digest("x")) == []


def test_a_layer_that_was_removed_meanwhile_is_not_remembered(table: RemoteTable) -> None:
    table.add_packed(PackedRow(some_digest("gone"), some_digest("blob"), "tar", 9, "gzip:2"))
    assert table.packed(some_digest("gone")) == []


def test_places_are_known_until_they_are_forgotten(table: RemoteTable) -> None:
    blob, second = some_digest("blob"), some_digest("second")
    table.add_places(ONE, [blob, second])
    table.add_places(OTHER, [blob])
    assert table.places(blob) == [OTHER, ONE]
    table.add_places(ONE, [blob])
    assert table.places(blob) == [ONE, OTHER] and table.places(second) == [ONE]
    table.forget_place(blob, ONE)
    assert table.places(blob) == [OTHER]


def test_what_is_known_goes_with_the_last_layer(
    store: Store, table: RemoteTable, diff_id: Digest
) -> None:
    row = PackedRow(diff_id, some_digest("blob"), "tar+gzip", 99, "gzip:2")
    table.add_packed(row)
    table.add_places(ONE, [row.digest, some_digest("foreign")])
    layers = LayerTable(store.database)
    assert layers.delete_blobs_of(diff_id) == []
    assert table.packed(diff_id) == [row] and table.places(row.digest) == [ONE]
    layers.delete(some_digest("l"))
    assert layers.delete_blobs_of(diff_id) == [], "no bytes were kept"
    assert table.packed(diff_id) == [] and table.places(row.digest) == []
    assert table.places(some_digest("foreign")) == [ONE]
