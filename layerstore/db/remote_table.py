"""The tables `packed_layers` and `blob_places`: what is known of layers in registries.

A push packs a layer into a stream that is not kept; its digest is remembered, so that the
next push of the same layer need not pack it.  Where a blob was seen is remembered too, so
that a push to another repository of the same registry can ask for it to be mounted.

What a registry holds may change at any time: all of it is a hint that a request confirms.

Threading: any thread.
"""

from __future__ import annotations

import time

from layerstore.db.database import Database
from layerstore.oci.digest import Digest
from unionfs.light_typing import NamedTuple


class PackedRow(NamedTuple):
    """The blob that packing the layers of `diff_id` gave; `size` is in bytes.

    `compression` is its kind and level, as "gzip:2".
    """

    diff_id: Digest
    digest: Digest
    media_type: str
    size: int
    compression: str


class RemoteTable:
    """What is known of layers in registries, as rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_packed(self, row: PackedRow) -> None:
        """Remember a packed layer, if the store still has a layer of that diff_id."""
        self._database.write(
            "INSERT INTO packed_layers (diff_id, digest, media_type, size, compression)"
            " SELECT ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM layers WHERE diff_id = ?)"
            " ON CONFLICT DO UPDATE SET media_type = excluded.media_type, size = excluded.size,"
            " compression = excluded.compression",
            (*row, row.diff_id),
        )

    def packed(self, diff_id: Digest) -> list[PackedRow]:
        """Return the blobs that packing the layers of that diff_id gave."""
        return self._database.select(
            lambda diff, blob, *others: PackedRow(Digest(diff), Digest(blob), *others),
            f"SELECT {', '.join(PackedRow._fields)} FROM packed_layers WHERE diff_id = ?"
            " ORDER BY digest",
            (diff_id,),
        )

    def add_places(self, repository: str, digests: list[Digest]) -> None:
        """Record that the repository, a full name, holds these blobs now."""
        now = time.time_ns()
        with self._database.transaction() as tx:
            tx.executemany(
                "INSERT INTO blob_places (digest, repository, seen_ns) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET seen_ns = excluded.seen_ns",
                [(digest, repository, now) for digest in digests],
            )

    def places(self, digest: Digest) -> list[str]:
        """Return the repositories that held the blob, the one seen last first."""
        return self._database.select(
            str,
            "SELECT repository FROM blob_places WHERE digest = ? ORDER BY seen_ns DESC, repository",
            (digest,),
        )

    def forget_place(self, digest: Digest, repository: str) -> None:
        """Record that the repository does not hold the blob any more."""
        self._database.write(
            "DELETE FROM blob_places WHERE digest = ? AND repository = ?", (digest, repository)
        )
