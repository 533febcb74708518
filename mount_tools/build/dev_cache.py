"""Development only: replaced by the store's own table."""

from __future__ import annotations

from layerstore.oci.digest import Digest
from layerstore.store import Store
from mount_tools.build.step_cache import CachedStep


class DevCache:
    def __init__(self, store: Store) -> None:
        self._store = store
        store.database.write(
            "CREATE TABLE IF NOT EXISTS dev_steps (key TEXT PRIMARY KEY, created INTEGER,"
            " by TEXT, diff_id TEXT, chain TEXT)"
        )

    def find(self, key: str) -> CachedStep | None:
        row = self._store.database.one(
            "SELECT created, by, diff_id, chain FROM dev_steps WHERE key = ?", (key,)
        )
        if row is None:
            return None
        if row[3] is not None and self._store.layers.find(Digest(row[3])) is None:
            return None
        return CachedStep(row[0], row[1], row[2], row[3])

    def keep(self, key: str, step: CachedStep) -> None:
        self._store.database.write(
            "INSERT OR REPLACE INTO dev_steps VALUES (?, ?, ?, ?, ?)",
            (key, step.created_ns, step.created_by, step.diff_id, step.chain),
        )
