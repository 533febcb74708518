"""The rows of layers, and of the blobs that they came from."""

from __future__ import annotations

import pytest

from layerstore import Digest, Store
from layerstore.db.layer_table import BlobRow, LayerRow, LayerTable
from tests.helpers.images import some_digest


@pytest.fixture
def table(store: Store) -> LayerTable:
    return LayerTable(store.database)


def add(table: LayerTable, name: str, parent: Digest | None = None) -> LayerRow:
    row = LayerRow(some_digest(name), parent, some_digest(f"diff of {name}"), 7, None)
    table.put(row)
    return row


def test_a_parent_comes_before_its_children(table: LayerTable) -> None:
    base = add(table, "base")
    top = add(table, "top", base.chain_id)
    assert table.all() == [base, top] and table.get(top.chain_id) == top
    assert table.childless() == [top.chain_id]
    assert table.is_parent(base.chain_id) and not table.is_parent(top.chain_id)
    assert table.sizes() == {base.chain_id: 7, top.chain_id: 7}
    table.delete(top.chain_id)
    assert table.get(top.chain_id) is None and table.childless() == [base.chain_id]


def test_putting_a_layer_again_changes_its_location_only(table: LayerTable) -> None:
    row = add(table, "base")
    table.put(row._replace(size=8, location="containers/c/layers/1"))
    assert table.get(row.chain_id) == row._replace(location="containers/c/layers/1")
    assert table.unsettled() == [row.chain_id]
    table.settle(row.chain_id)
    assert table.get(row.chain_id) == row and table.unsettled() == []


def test_blobs_go_with_the_last_layer_of_their_diff_id(table: LayerTable) -> None:
    one = add(table, "one")
    two = LayerRow(some_digest("two"), one.chain_id, one.diff_id, 7, None)
    table.put(two)
    blob = BlobRow(one.diff_id, some_digest("blob"), "tar", 99)
    table.add_blob(blob)
    table.add_blob(blob._replace(size=1))
    assert table.blobs(one.diff_id) == [blob] and table.names_blob(blob.digest)
    assert table.blob_users().keys() == {blob.digest}
    assert table.delete_blobs_of(one.diff_id) == []
    table.delete(two.chain_id)
    assert table.blob_users() == {blob.digest: one.chain_id}
    table.delete(one.chain_id)
    assert table.delete_blobs_of(one.diff_id) == [blob.digest]
    assert not table.names_blob(blob.digest)


def test_a_blob_is_deleted_for_every_layer(table: LayerTable) -> None:
    one, two = add(table, "one"), add(table, "two")
    blob = some_digest("blob")
    for row in (one, two):
        table.add_blob(BlobRow(row.diff_id, blob, "tar", 9))
    table.delete_blob(blob)
    assert table.blobs(one.diff_id) == table.blobs(two.diff_id) == []
