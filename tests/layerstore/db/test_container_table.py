"""The rows of containers: found by name and id, and their ends recorded once."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.db.container_table import KILLED, ContainerRow, ContainerTable
from layerstore.db.database import Database, Value
from layerstore.db.processes import this_process
from tests.helpers import children
from tests.helpers.images import add_image

GONE = 1  # a start that no process has


@pytest.fixture
def table(store: Store) -> ContainerTable:
    return ContainerTable(store.database)


def add(store: Store, table: ContainerTable, number: int, **columns: Value) -> ContainerRow:
    """Add a row as the store does, without a directory."""
    image = add_image(store, {"f": b"x"})
    made = store.containers.create(image, name=f"c{number}")
    row = table.get(made.id)
    assert row is not None
    store.containers.remove(made)
    row = row._replace(id=f"{number:064x}", name=f"c{number}", created_ns=number)
    table.insert(row)
    if columns:
        table.update(row.id, columns)
    found = table.get(row.id)
    assert found is not None
    return found


def test_an_id_goes_before_a_name(store: Store, table: ContainerTable) -> None:
    first, second = add(store, table, 1), add(store, table, 2)
    table.update(second.id, {"name": first.id})
    assert table.named(first.id, first.id) == first
    assert table.named("c1", "c1") == first and table.named("c2", "c2") is None
    assert table.holder("c1") == first.id and table.holder("c2") is None
    assert {row.id for row in table.by_prefix("0" * 60)} == {first.id, second.id}
    assert [row.id for row in table.all()] == [second.id, first.id], "the newest first"


def test_a_mount_point_need_not_be_utf_8(store: Store, table: ContainerTable) -> None:
    for path in ("/a/b", "/ü", os.fsdecode(b"/\xff\xfe")):
        row = add(store, table, 1, mount_point=path)
        assert row.mount_point == path
        table.update(row.id, {"mount_point": None})
        found = table.get(row.id)
        assert found is not None and found.mount_point is None
        table.delete(row.id)


def test_what_containers_are_based_on(store: Store, table: ContainerTable) -> None:
    row = add(store, table, 1)
    other = add(store, table, 2, base=None)
    assert row.base is not None
    assert table.bases() == {row.base} and table.is_base(row.base)
    assert [found.id for found in table.of_image(row.image)] == [row.id, other.id]
    table.delete(row.id)
    assert table.ids() == {other.id} and not table.is_base(row.base)


def test_a_container_lives_with_its_process_or_its_runner(
    store: Store, table: ContainerTable
) -> None:
    alive = this_process()
    gone: dict[str, Value] = {"pid": os.getpid(), "pid_start": GONE, "status": "running"}
    runner: dict[str, Value] = {"runner": alive.pid, "runner_start": alive.start}
    assert add(store, table, 1, **{**gone, **runner}).status == "running"
    assert add(store, table, 2, **{**gone, "pid_start": alive.start}).status == "running"
    assert add(store, table, 3, **gone).status == "exited"


def test_many_readers_record_one_end(store: Store, table: ContainerTable, tmp_path: Path) -> None:
    row = add(store, table, 1)
    start = this_process().start
    sql = "UPDATE containers SET status = 'running', pid = ?, pid_start = ? WHERE id = ?"
    store.database.write(sql, (os.getpid(), start ^ 1, row.id))

    def look() -> None:
        with closing(Database(store.database.path, sync=False)) as own:
            found = ContainerTable(own).get(row.id)
            assert found is not None and found.exit_code == KILLED
            (tmp_path / f"seen{os.getpid()}").write_text(str(found.finished_ns))

    for pid in [children.spawn(look) for _ in range(6)]:
        assert children.wait(pid) == 0
    found = table.get(row.id)
    assert found is not None
    assert {path.read_text() for path in tmp_path.glob("seen*")} == {str(found.finished_ns)}


def test_an_end_is_not_recorded_of_a_container_started_meanwhile(
    store: Store, table: ContainerTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = add(store, table, 1)
    alive = this_process()
    sql = "UPDATE containers SET status = 'running', pid = ?, pid_start = ? WHERE id = ?"
    store.database.write(sql, (os.getpid(), GONE, row.id))

    def started_meanwhile(self: ContainerRow) -> bool:
        store.database.write(sql, (alive.pid, alive.start, row.id))
        return True

    monkeypatch.setattr(ContainerRow, "ended_unrecorded", property(started_meanwhile))
    found = table.get(row.id)
    assert found is not None
    assert (found.status, found.pid, found.exit_code) == ("running", alive.pid, None)
