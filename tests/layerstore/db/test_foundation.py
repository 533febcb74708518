"""What every part of a store stands on."""

from __future__ import annotations

from pathlib import Path

from layerstore.blobs import BlobStore
from layerstore.db import database
from layerstore.db.database import Database
from layerstore.db.durability import Durability
from layerstore.db.foundation import Foundation
from layerstore.db.leases import Leases
from layerstore.db.staging import StagingArea


def test_a_part_of_a_store_needs_nothing_else(tmp_path: Path) -> None:
    for name in ("staging", "blobs/sha256"):
        (tmp_path / name).mkdir(parents=True)
    durability = Durability(sync=False)
    database.create(tmp_path / "store.db", tmp_path / "new.db", durability)
    rows = Database(tmp_path / "store.db", sync=False)
    try:
        foundation = Foundation(
            tmp_path, rows, StagingArea(tmp_path / "staging"), durability, Leases(rows)
        )
        blobs = BlobStore(foundation)
        digest = blobs.put(b"content")
        assert blobs.path(digest) == tmp_path / "blobs" / "sha256" / digest.encoded
        assert blobs.read(digest) == b"content"
    finally:
        rows.close()
