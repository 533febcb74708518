"""The rows of images: what names them, what is kept of them, and what goes with them."""

from __future__ import annotations

import sqlite3

import pytest

from layerstore import Digest, Store
from layerstore.db.image_table import ImageRow, ImageTable, ManifestRow, NameRow
from tests.helpers.images import add_layer, some_digest

REPOSITORY = "docker.io/library/x"


@pytest.fixture
def table(store: Store) -> ImageTable:
    return ImageTable(store.database)


def add(table: ImageTable, name: str, created_ns: int = 1, top: Digest | None = None) -> ImageRow:
    row = ImageRow(some_digest(name), top, None, created_ns, 7, "amd64", "linux")
    table.add(row)
    return row


def test_images_are_listed_the_newest_first(table: ImageTable) -> None:
    old, new = add(table, "old", 1), add(table, "new", 2)
    assert table.all() == [new, old] and set(table.ids()) == {old.id, new.id}
    assert table.get(old.id) == old and table.get(some_digest("none")) is None
    table.add(old._replace(size=8))
    assert table.get(old.id) == old, "one that is there stays as it is"
    table.set_parent(new.id, old.id)
    assert table.children(old.id) == [new.id]


def test_no_more_than_five_of_a_prefix_are_read(table: ImageTable) -> None:
    for number in range(9):
        row = add(table, str(number))
        table.delete(row.id)
        table.add(row._replace(id=Digest.of_hex(f"{number:064x}")))
    assert len(table.by_prefix("000")) == 5
    assert table.by_prefix("0" * 63 + "4") == [Digest.of_hex(f"{4:064x}")]
    assert table.by_prefix("f") == []


def test_an_image_of_a_layer_is_the_preferred_one_or_the_newest(
    store: Store, table: ImageTable
) -> None:
    top = add_layer(store, None, {"f": b"x"}).chain_id
    first, second = add(table, "a", top=top), add(table, "b", top=top)
    bare = add(table, "c")
    assert table.with_top(top, preferred=first.id) == first.id
    assert table.with_top(top, preferred=some_digest("none")) == second.id
    assert table.with_top(None, preferred=first.id) == bare.id
    assert table.with_top(some_digest("none"), preferred=first.id) is None
    assert table.tops() == {top} and table.is_top(top)


def test_names_are_tags_and_digests_sorted(table: ImageTable) -> None:
    one, other = add(table, "one"), add(table, "other")
    for tag in ("2", "1", "3"):
        table.tag(one.id, REPOSITORY, tag)
    manifest = some_digest("manifest")
    table.add_digest(one.id, REPOSITORY, manifest)
    table.tag(other.id, REPOSITORY, "3")
    assert table.names(one.id) == [
        NameRow(one.id, REPOSITORY, tag="1"),
        NameRow(one.id, REPOSITORY, tag="2"),
        NameRow(one.id, REPOSITORY, digest=manifest),
    ]
    assert len(table.names()) == 4 and len(table.some_names(one.id)) == 3
    assert table.tagged(REPOSITORY, "3") == other.id
    assert table.digested(REPOSITORY, manifest) == [one.id]
    assert table.is_tagged(one.id, REPOSITORY) and not table.is_tagged(one.id, "y")
    assert table.last_tagged_ns(one.id) and table.last_tagged_ns(some_digest("x")) is None
    assert table.untag(REPOSITORY, "1") and not table.untag(REPOSITORY, "1")
    assert not table.delete_digest(other.id, REPOSITORY, manifest)
    assert table.delete_digest(one.id, REPOSITORY, manifest)
    assert not table.delete_digest(one.id, REPOSITORY, manifest)
    assert table.digests_in(one.id, REPOSITORY) == []


def test_manifests_go_with_their_image_and_names_hold_it(table: ImageTable) -> None:
    row = add(table, "one")
    manifest = ManifestRow(some_digest("manifest"), row.id, "application/json")
    table.add_manifest(manifest)
    table.tag(row.id, REPOSITORY, "1")
    assert table.manifests(row.id) == table.manifests() == [manifest]
    assert table.names_blob(row.id) and table.names_blob(manifest.digest)
    with pytest.raises(sqlite3.IntegrityError):
        table.delete(row.id)
    table.untag(REPOSITORY, "1")
    table.delete(row.id)
    assert table.manifests() == [] and not table.names_blob(manifest.digest)


def test_an_index_is_kept_for_each_image_that_came_from_it(table: ImageTable) -> None:
    one, other = add(table, "one"), add(table, "other")
    index = ManifestRow(some_digest("index"), one.id, "application/json")
    table.add_manifest(index)
    table.add_manifest(index)
    table.add_manifest(index._replace(image=other.id))
    table.delete(one.id)
    assert table.manifests() == [index._replace(image=other.id)]
    assert table.names_blob(index.digest)
    table.delete_manifest(index.digest)
    assert table.manifests() == []
