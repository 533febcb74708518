"""The rows of volumes and of their uses: a use goes with its container, a volume does not."""

from __future__ import annotations

import sqlite3

import pytest

from layerstore import Store
from layerstore.db.volume_table import UseRow, VolumeRow, VolumeTable
from tests.helpers.images import add_image


@pytest.fixture
def table(store: Store) -> VolumeTable:
    return VolumeTable(store.database)


def test_volumes_are_found_by_name_and_listed_by_it(table: VolumeTable) -> None:
    rows = [VolumeRow("b", None, 1), VolumeRow("a", '{"x": "y"}', 2)]
    for row in rows:
        table.insert(row)
    assert table.get("a") == rows[1] and table.get("c") is None
    assert table.all() == [rows[1], rows[0]] and table.names() == {"a", "b"}
    table.delete("a")
    assert table.all() == [rows[0]]


def test_uses_go_with_their_container(store: Store, table: VolumeTable) -> None:
    image = add_image(store, {"f": b"x"})
    one, two = (store.containers.create(image, name=f"c{n}") for n in range(2))
    table.insert(VolumeRow("data", None, 1))
    use = UseRow(one.id, "/b", "data", 1, 1, 0)
    for row in (use, use._replace(target="/a"), use._replace(container=two.id)):
        table.use(row)
    assert [row.target for row in table.uses_of(one.id)] == ["/a", "/b"]
    assert table.users("data") == [one.id, two.id] and table.used() == {"data"}
    table.filled(one.id, "/b")
    assert table.uses_of(one.id)[1] == use._replace(filled=1)
    store.containers.remove(one)
    assert table.uses_of(one.id) == [] and table.users("data") == [two.id]
    with pytest.raises(sqlite3.IntegrityError):
        table.delete("data")
    store.containers.remove(two)
    assert table.used() == set()
    table.delete("data")
