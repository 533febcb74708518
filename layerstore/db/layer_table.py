"""The tables `layers` and `layer_blobs`: which layers there are, and the blobs they came from.

Decided here and only here: the SQL on both.  `layerstore.db.schema` says what a row means,
`layerstore.layers` where the trees are.

Threading: any thread.
"""

from __future__ import annotations

import time

from layerstore.db.database import Database
from layerstore.oci.digest import Digest
from unionfs.light_typing import NamedTuple


class LayerRow(NamedTuple):
    """A layer as it is stored; `size` is in bytes, `location` beneath the store's root."""

    chain_id: Digest
    parent: Digest | None
    diff_id: Digest
    size: int
    location: str | None


class BlobRow(NamedTuple):
    """A blob that layers of `diff_id` were unpacked from; `size` is in bytes."""

    diff_id: Digest
    digest: Digest
    media_type: str
    size: int


_SELECT = f"SELECT {', '.join(LayerRow._fields)} FROM layers"


class LayerTable:
    """The layers of a store, as rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, chain: Digest) -> LayerRow | None:
        """Return the layer of that chain_id."""
        rows = self._select("WHERE chain_id = ?", chain)
        return rows[0] if rows else None

    def all(self) -> list[LayerRow]:
        """Return every layer, a parent before its children."""
        return self._select("ORDER BY created_ns, chain_id")

    def unsettled(self) -> list[Digest]:
        """Return the layers that are not in their place yet."""
        return self._database.select(
            Digest, "SELECT chain_id FROM layers WHERE location IS NOT NULL"
        )

    def childless(self) -> list[Digest]:
        """Return the layers that are the parent of no other."""
        return self._database.select(
            Digest,
            "SELECT chain_id FROM layers AS layer"
            " WHERE NOT EXISTS (SELECT 1 FROM layers WHERE parent = layer.chain_id)",
        )

    def sizes(self) -> dict[Digest, int]:
        """Return the size of every layer."""
        sql = "SELECT chain_id, size FROM layers"
        return dict(self._database.select(lambda chain, size: (Digest(chain), int(size)), sql))

    def is_parent(self, chain: Digest) -> bool:
        """Tell whether another layer is on top of the layer."""
        return self._database.has("layers", "parent = ?", chain)

    def put(self, row: LayerRow) -> None:
        """Add a layer; of one that is there, only the location changes."""
        self._database.write(
            "INSERT INTO layers (chain_id, parent, diff_id, size, created_ns, location)"
            " VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (chain_id) DO UPDATE SET location = excluded.location",
            (row.chain_id, row.parent, row.diff_id, row.size, time.time_ns(), row.location),
        )

    def settle(self, chain: Digest) -> None:
        """Record that the layer is in its place."""
        self._database.write("UPDATE layers SET location = NULL WHERE chain_id = ?", (chain,))

    def delete(self, chain: Digest) -> None:
        """Delete a layer's row."""
        self._database.write("DELETE FROM layers WHERE chain_id = ?", (chain,))

    # -- the blobs that layers came from --

    def add_blob(self, row: BlobRow) -> None:
        """Record a blob; one that is there stays as it is."""
        self._database.write(
            "INSERT INTO layer_blobs (diff_id, digest, media_type, size) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            row,
        )

    def blobs(self, diff_id: Digest) -> list[BlobRow]:
        """Return the blobs of the layers of that diff_id."""
        return self._blobs("WHERE diff_id = ? ORDER BY digest", diff_id)

    def blob_users(self) -> dict[Digest, Digest]:
        """Return every blob that a layer came from, with the chain_id of such a layer."""
        sql = "SELECT digest, chain_id FROM layer_blobs JOIN layers USING (diff_id)"
        return dict(self._database.select(lambda blob, chain: (Digest(blob), Digest(chain)), sql))

    def names_blob(self, digest: Digest) -> bool:
        """Tell whether a layer came from the blob."""
        return self._database.has("layer_blobs", "digest = ?", digest)

    def delete_blobs_of(self, diff_id: Digest) -> list[Digest]:
        """Delete and return the blobs of that diff_id, unless a layer still has it.

        What is known of them in registries is deleted with them.
        """
        with self._database.transaction() as tx:
            unless = "diff_id = ? AND NOT EXISTS (SELECT 1 FROM layers WHERE diff_id = ?)"
            kept = tx.execute(
                f"DELETE FROM layer_blobs WHERE {unless} RETURNING digest", (diff_id, diff_id)
            ).fetchall()
            packed = tx.execute(
                f"DELETE FROM packed_layers WHERE {unless} RETURNING digest", (diff_id, diff_id)
            ).fetchall()
            tx.executemany(
                "DELETE FROM blob_places WHERE digest = :digest"
                " AND NOT EXISTS (SELECT 1 FROM layer_blobs WHERE digest = :digest)"
                " AND NOT EXISTS (SELECT 1 FROM packed_layers WHERE digest = :digest)",
                [{"digest": digest} for (digest,) in {*kept, *packed}],
            )
        return [Digest(row[0]) for row in kept]

    def delete_blob(self, digest: Digest) -> None:
        """Delete every row of a blob."""
        self._database.write("DELETE FROM layer_blobs WHERE digest = ?", (digest,))

    def _select(self, rest: str, *values: str) -> list[LayerRow]:
        return self._database.select(
            lambda chain, parent, diff_id, *others: LayerRow(
                Digest(chain), parent and Digest(parent), Digest(diff_id), *others
            ),
            f"{_SELECT} {rest}",
            values,
        )

    def _blobs(self, rest: str, *values: str) -> list[BlobRow]:
        return self._database.select(
            lambda diff_id, digest, *others: BlobRow(Digest(diff_id), Digest(digest), *others),
            f"SELECT {', '.join(BlobRow._fields)} FROM layer_blobs {rest}",
            values,
        )
