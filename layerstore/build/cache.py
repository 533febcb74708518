"""The build cache: steps that need not be done again.

    cache = BuildCache(store)
    step = cache.find(key)          # one indexed look-up
    if step is not None and cache.hold(step.chain): ...
    cache.keep(key, step)

Decided here and only here: when a known step may be relied on.  Its layers have to be
there, and leased by the work of this process: another process may prune at any time.

Threading: any thread.  Source: moby `builder/builder-next/` for what a prune removes.
"""

from __future__ import annotations

from layerstore.build.source_digest import Digester
from layerstore.build.tree import Tree
from layerstore.db.build_table import BuildTable, FileDigests
from layerstore.db.build_table import StepRow as StepRow
from layerstore.oci.digest import Digest
from layerstore.store import Store


class BuildCache:
    """The build cache of `store`."""

    def __init__(self, store: Store) -> None:
        self._layers = store.layers
        self._rows = BuildTable(store.database)

    def find(self, key: str) -> StepRow | None:
        """Return the step of that key, whose layers are there at this moment, or None.

        They are not leased: the caller `hold`s the last of several steps that it takes,
        which holds those beneath it.
        """
        found = self._rows.step(key)
        if found is None or found.chain is None or self._layers.find(found.chain) is not None:
            return found
        return None

    def hold(self, chain: Digest | None) -> bool:
        """Lease `chain` for the work of this process; False if it is gone meanwhile."""
        return chain is None or self._layers.need(chain) is not None

    def keep(self, key: str, step: StepRow) -> None:
        """Remember a step, whose layers are published; part of the caller's transaction."""
        self._rows.keep(key, step)


class FileMemo:
    """A digester of `tree` that remembers digests in `store`; a context manager."""

    def __init__(self, store: Store, tree: Tree) -> None:
        self._digests = FileDigests(store.database)
        self.digester = Digester(tree, self._digests)

    def __enter__(self) -> Digester:
        return self.digester

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # What was read is true whatever happens afterwards.
        self._digests.flush()
