"""The rows of build steps, of files' digests and of parsed files."""

from __future__ import annotations

import pytest

from layerstore import Store
from layerstore.db import build_table
from layerstore.db.build_table import BuildTable, FileDigests, FileKey, ParsedFiles, StepRow
from layerstore.db.layer_table import LayerRow, LayerTable
from layerstore.oci.digest import Digest
from tests.helpers.images import some_digest


@pytest.fixture
def table(store: Store) -> BuildTable:
    return BuildTable(store.database)


def layer(store: Store, name: str) -> Digest:
    row = LayerRow(some_digest(name), None, some_digest(f"diff of {name}"), 7, None)
    LayerTable(store.database).put(row)
    return row.chain_id


def test_a_step_is_found_by_its_key(store: Store, table: BuildTable) -> None:
    chain = layer(store, "a")
    row = StepRow(5, "RUN x", some_digest("diff of a"), chain)
    table.keep("key", row)
    assert table.step("key") == row
    assert table.step("other") is None
    again = row._replace(created_ns=6, created_by="RUN y")
    table.keep("key", again)
    assert table.step("key") == again
    table.keep("config", StepRow(7, "ENV a=b", None, None))
    assert table.step("config") == StepRow(7, "ENV a=b", None, None)


def test_a_step_goes_with_its_layer(store: Store, table: BuildTable) -> None:
    chain = layer(store, "a")
    table.keep("key", StepRow(5, "RUN x", None, chain))
    assert table.is_top(chain) and table.tops() == {chain}
    LayerTable(store.database).delete(chain)
    assert table.step("key") is None
    assert not table.is_top(chain) and table.tops() == set()


def test_forget(store: Store, table: BuildTable) -> None:
    a, b = layer(store, "a"), layer(store, "b")
    table.keep("a", StepRow(5, "", None, a))
    table.keep("b", StepRow(9, "", None, b))
    table.keep("none", StepRow(5, "", None, None))
    assert table.forget({a}, 4) == 0
    assert table.forget({a}, 8) == 1
    assert [table.step(key) is not None for key in ("a", "b", "none")] == [True, True, False]
    assert table.forget(set()) == 2


FILE = FileKey(1, 2, 3, 4, 5, b"header")


def test_a_file_is_known_as_long_as_nothing_of_it_changes(store: Store) -> None:
    digests = FileDigests(store.database)
    digests.keep(FILE, b"digest")
    digests.flush()
    assert digests.find(FILE) == b"digest"
    for changed in (
        FILE._replace(dev=9),
        FILE._replace(ino=9),
        FILE._replace(size=9),
        FILE._replace(mtime_ns=9),
        FILE._replace(ctime_ns=9),
    ):
        assert digests.find(changed) is None
    assert digests.find(FILE._replace(header=b"other")) is None


def test_a_changed_file_takes_the_place_of_the_old(store: Store) -> None:
    digests = FileDigests(store.database)
    digests.keep(FILE, b"1")
    digests.keep(FILE._replace(mtime_ns=8), b"2")
    digests.flush()
    assert digests.find(FILE) is None
    assert digests.find(FILE._replace(mtime_ns=8)) == b"2"
    assert store.database.first(int, "SELECT count(*) FROM file_digests") == 1


def test_the_largest_numbers_fit(store: Store) -> None:
    digests = FileDigests(store.database)
    known = FILE._replace(dev=(1 << 64) - 1, ino=1 << 63)
    digests.keep(known, b"digest")
    digests.flush()
    assert digests.find(known) == b"digest"


def test_the_oldest_of_too_many_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_table, "MOST_FILES", 10)
    monkeypatch.setattr(build_table, "BATCH", 7)
    digests = FileDigests(store.database)
    for number in range(25):
        digests.keep(FILE._replace(ino=number), b"%d" % number)
    digests.flush()
    found = [number for number in range(25) if digests.find(FILE._replace(ino=number))]
    assert found == list(range(15, 25))


def test_what_a_file_parses_to_is_kept_unless_it_is_long(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_table, "MOST_PARSED", 2)
    monkeypatch.setattr(build_table, "LONGEST_PARSED", 9)
    parsed = ParsedFiles(store.database)
    assert parsed.find("a") is None
    parsed.keep("a", "[1]")
    parsed.keep("a", "[2]")
    assert parsed.find("a") == "[2]"
    parsed.keep("long", "[" + " " * 9 + "]")
    assert parsed.find("long") is None
    for key in "bcd":
        parsed.keep(key, "[]")
    assert [key for key in "abcd" if parsed.find(key)] == ["c", "d"]
