"""The build cache: steps of earlier builds that need not run again.

    cache = BuildCache(store)
    step = cache.find(key)          # one indexed look-up
    if step is not None and cache.hold(step.chain): ...
    cache.keep(key, step)

This module alone decides when a cached step may be used.  Its layers have to be in the
store, and this process has to hold a lease on them: another process may prune at any time.

Threading: any thread.  Source: moby `builder/builder-next/` for what a prune removes.
"""

from __future__ import annotations

from layerstore.db.build_table import BuildTable
from layerstore.db.build_table import StepRow as StepRow
from layerstore.oci.digest import Digest
from layerstore.store import Store


class BuildCache:
    """The build cache of `store`."""

    def __init__(self, store: Store) -> None:
        self._layers = store.layers
        self._rows = BuildTable(store.database)
        self._there: set[Digest] = set()  # chains that were in the store at some moment

    def find(self, key: str) -> StepRow | None:
        """Return the step of `key`, whose layers are in the store, or None.

        The layers are not leased: the caller calls `hold` for the last step that it uses,
        which also holds the layers beneath it.
        """
        found = self._rows.step(key)
        if found is None or found.chain is None or found.chain in self._there:
            return found
        if not self._layers.exists(found.chain):
            return None
        self._there.add(found.chain)
        return found

    def hold(self, chain: Digest | None) -> bool:
        """Lease `chain` for this process; return False if it has been removed meanwhile."""
        return chain is None or self._layers.need(chain) is not None

    def keep(self, key: str, step: StepRow) -> None:
        """Record a step whose layers are published, in the caller's transaction."""
        self._rows.keep(key, step)
