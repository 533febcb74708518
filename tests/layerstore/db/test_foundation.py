"""What every part of a store stands on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from layerstore.blobs import BlobStore
from layerstore.db import database
from layerstore.db.database import Database
from layerstore.db.durability import Durability
from layerstore.db.foundation import DirectoryPart, Foundation
from layerstore.db.leases import Leases
from layerstore.db.staging import StagingArea


@pytest.fixture
def foundation(tmp_path: Path) -> Iterator[Foundation]:
    for name in ("staging", "blobs/sha256"):
        (tmp_path / name).mkdir(parents=True)
    durability = Durability(sync=False)
    database.create(tmp_path / "store.db", tmp_path / "new.db", durability)
    with closing(Database(tmp_path / "store.db", sync=False)) as rows:
        yield Foundation(
            tmp_path, rows, StagingArea(tmp_path / "staging"), durability, Leases(rows)
        )


def test_a_part_of_a_store_needs_nothing_else(foundation: Foundation, tmp_path: Path) -> None:
    blobs = BlobStore(foundation)
    digest = blobs.put(b"content")
    assert blobs.path(digest) == tmp_path / "blobs" / "sha256" / digest.encoded
    assert blobs.read(digest) == b"content"


class Things(DirectoryPart):
    """A part whose only row is `row`."""

    _KEYS = "things/"

    def _has_row(self, name: str) -> bool:
        return name == "row"

    def _row_names(self) -> set[str]:
        return {"row"}

    def discard(self, *names: str) -> None:
        self._discard(names)


def test_only_directories_without_a_row_are_removed(foundation: Foundation) -> None:
    things = Things(foundation, "things")
    assert things.strays() == []  # nor is the directory there
    for name in ("row", "leased", "stray"):
        (things.path / name).mkdir(parents=True)
    with foundation.leases.lease("work", "test"):
        foundation.leases.hold("volume", "things/leased")
        assert things.strays() == ["stray"]
    things.discard("row", "stray", "absent")
    assert sorted(path.name for path in things.path.iterdir()) == ["leased", "row"]
