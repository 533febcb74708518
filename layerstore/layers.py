"""Layers: unpacked trees in overlay format, immutable, shared by all chains that begin alike.

A layer is a directory named by its chain_id, with `diff` (the tree), `index`
(what `check` compares it with) and `tar-split` (what re-creates its tar).  It
is published whole: built in staging, written back, and renamed into place in
the transaction that inserts its row.  A directory without a row is no layer, and
a publication replaces it; a row without its directory, as a repair can leave, is made
whole by the next publication of the same layer.

A commit publishes a tree that a mount is using, which cannot wait in staging:
`adopt` inserts the row with the `location` where the tree is, and `settle`
moves it to its own place afterwards.

A layer of no image is collected unless its maker holds a work lease from
before `publish` or `adopt`, or before `need` found it.

Threading: any thread; the database's write lock orders them.
Source: image-spec config.md "Layer ChainID".
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from layerstore.db.database import Database, Row
from layerstore.db.durability import Durability
from layerstore.db.leases import Leases
from layerstore.db.staging import StagingArea
from layerstore.errors import NotFound
from layerstore.oci.digest import Digest, chain_id
from layerstore.oci.documents import Descriptor

_COLUMNS = "chain_id, parent, diff_id, size, location"


class _Parts:
    """What lies in the directory of a layer, published or being built."""

    path: Path

    @property
    def diff(self) -> Path:
        """The tree, in overlay format."""
        return self.path / "diff"

    @property
    def index(self) -> Path:
        """What each path of the tree was when it was published."""
        return self.path / "index"

    @property
    def tar_split(self) -> Path:
        """What the layer's tar has besides the content of its files."""
        return self.path / "tar-split"


@dataclass(frozen=True)
class Layer(_Parts):
    """A published layer; `size` is the bytes of its files' content."""

    chain_id: Digest
    parent: Digest | None
    diff_id: Digest
    size: int
    path: Path


@dataclass(frozen=True)
class Staging(_Parts):
    """A layer that is being built: `diff` is there and empty, the rest is the builder's."""

    path: Path


@dataclass(frozen=True)
class Freed:
    """What lost its last user: layers, the topmost first, and the blobs they came from."""

    layers: list[Layer]
    blobs: list[Digest]


class LayerStore:
    """The directory `<root>/layers` and its rows."""

    def __init__(
        self,
        root: Path,
        database: Database,
        staging: StagingArea,
        durability: Durability,
        leases: Leases,
    ) -> None:
        self._root = root
        self._directory = root / "layers"
        self._database = database
        self._staging = staging
        self._durability = durability
        self._leases = leases

    @contextmanager
    def stage(self) -> Iterator[Staging]:
        """Make the directory to build a layer in; it goes at the end unless published."""
        with self._leases.lease("work", "layer"), self._staging.to_build() as own:
            staging = Staging(own / "layer")
            staging.path.mkdir(mode=0o700)
            staging.diff.mkdir()
            staging.diff.chmod(0o755)  # whatever the umask
            yield staging

    def publish(self, staging: Staging, parent: Digest | None, diff_id: Digest, size: int) -> Layer:
        """Make what was built a layer of the store, and return it.

        Where the same layer is there already, that one stays and the staged one
        is dropped.  Raises NotFound where `parent` is not in the store.
        """
        self._durability.tree(staging.path)
        chain = chain_id(parent, diff_id)
        # Committed before anything is at its place, for a recovery to know of it.
        self._leases.hold("layer", chain)
        try:
            with self._database.transaction() as tx:
                there = self.find(chain)
                if there is not None:
                    return there
                self._insert(tx, chain, parent, diff_id, size, None)
                self._move_in(staging.path, chain, staging.path.with_name("replaced"))
        except BaseException:
            self.collect([chain])
            raise
        return self.get(chain)

    def _move_in(self, source: Path, chain: Digest, aside: Path) -> None:
        """Rename `source` to its place; whatever is there is nobody's and goes `aside`."""
        target = self._place(chain)
        with suppress(FileNotFoundError):
            os.rename(target, aside)
        os.rename(source, target)
        self._durability.directory(self._directory)

    def adopt(
        self,
        location: Path | str,
        parent: Digest | None,
        diff_id: Digest,
        size: int,
        within: sqlite3.Connection,
    ) -> Layer:
        """Record the tree at `location`, beneath the store's root, as a layer.

        Part of the caller's transaction `within`, which is to make the image and
        the container follow; the caller has written the tree back
        (`Durability.tree`) before it, and calls `settle` after it.  Where
        the same layer is there already, that one is returned and `location`
        stays the caller's.
        """
        relative = os.path.relpath(self._root / location, self._root)
        chain = chain_id(parent, diff_id)
        self._leases.hold("layer", chain)
        there = self.find(chain)
        if there is not None:
            return there
        self._insert(within, chain, parent, diff_id, size, relative)
        return self.get(chain)

    def settle(self) -> list[Layer]:
        """Move every adopted tree to its own place; return those that were moved."""
        moved = []
        for row in self._database.read("SELECT chain_id FROM layers WHERE location IS NOT NULL"):
            layer = self._settle(Digest(row[0]))
            if layer is not None:
                moved.append(layer)
        return moved

    def _settle(self, chain: Digest) -> Layer | None:
        with self._staging.directory() as own, self._database.transaction() as tx:
            row = self._row(chain)
            if row is None or row[4] is None:
                return None  # another process settled it
            source = self._root / row[4]
            if source.exists():
                self._move_in(source, chain, own / "replaced")
                self._durability.directory(source.parent)
            elif not self._place(chain).exists():
                return None  # lost; `check` says so
            tx.execute("UPDATE layers SET location = NULL WHERE chain_id = ?", (chain,))
        return self.get(chain)

    def find(self, chain: Digest) -> Layer | None:
        """Return the layer, or None where it, or its tree, is not in the store."""
        row = self._row(chain)
        if row is None:
            return None
        layer = self._layer(row)
        return layer if layer.path.exists() else None

    def get(self, chain: Digest) -> Layer:
        """Return the layer; raises NotFound."""
        row = self._row(chain)
        if row is None:
            raise NotFound(f"no such layer: {chain}")
        layer = self._layer(row)
        if not layer.path.exists():
            raise NotFound(
                f"the layer {chain.short} has lost its files; `pyunion check` tells which images "
                "need it, and loading one of them again brings it back"
            )
        return layer

    def need(self, chain: Digest) -> Layer | None:
        """Return the layer, kept from now on for the work under way, or None."""
        with self._database.transaction():
            layer = self.find(chain)
            if layer is not None:
                self._leases.hold("layer", chain)
        return layer

    def chain(self, top: Digest | None) -> list[Layer]:
        """Return the layers of the chain `top`, the topmost first; raises NotFound."""
        layers = []
        while top is not None:
            layer = self.get(top)
            layers.append(layer)
            top = layer.parent
        return layers

    def all(self) -> list[Layer]:
        """Return every layer, also one that lost its tree, those beneath before those above."""
        rows = self._database.read(f"SELECT {_COLUMNS} FROM layers ORDER BY created_ns, chain_id")
        return [self._layer(row) for row in rows]

    def remove(self, chain: Digest) -> bool:
        """Remove a layer unless something needs it; tell whether it was removed."""
        with self._leases.lease("work", "layer"):
            with self._database.transaction() as tx:
                needed = self._used(tx, chain) or chain in self._leases.kept()
                if not needed:
                    self._leases.hold("gone", chain)
                    tx.execute("DELETE FROM layers WHERE chain_id = ?", (chain,))
            self.collect([chain])
        return not needed

    def free(self, top: Digest | None) -> Freed:
        """Remove the rows of the chain `top` that nothing needs, the topmost first.

        A layer goes with its last image, container, layer above it and lease,
        and its blobs with the last layer of its diff_id.  The caller `collect`s
        both after its transaction.
        """
        freed = Freed([], [])
        with self._database.transaction() as tx:
            leased = self._leases.kept()
            while top is not None and not self._used(tx, top):
                row = self._row(top)
                if row is None:
                    break
                if top in leased:
                    self._leases.afterwards(top)
                    break
                layer = self._layer(row)
                tx.execute("DELETE FROM layers WHERE chain_id = ?", (top,))
                freed.layers.append(layer)
                blobs = tx.execute(
                    "DELETE FROM layer_blobs WHERE diff_id = ? AND NOT EXISTS"
                    " (SELECT 1 FROM layers WHERE diff_id = ?) RETURNING digest",
                    (layer.diff_id, layer.diff_id),
                )
                freed.blobs.extend(Digest(row[0]) for row in blobs.fetchall())
                top = layer.parent
            self._leases.hold("gone", *(layer.chain_id for layer in freed.layers), *freed.blobs)
        return freed

    def unneeded(self) -> list[Digest]:
        """Return the layers at the top of a chain that no image, container or lease needs."""
        with self._database.transaction():  # rows and leases are of the same moment
            rows = self._database.read(
                "SELECT chain_id FROM layers AS layer"
                " WHERE NOT EXISTS (SELECT 1 FROM layers WHERE parent = layer.chain_id)"
                " AND NOT EXISTS (SELECT 1 FROM images WHERE top = layer.chain_id)"
                " AND NOT EXISTS (SELECT 1 FROM containers WHERE base = layer.chain_id)"
            )
            leased = self._leases.kept()
        return [Digest(row[0]) for row in rows if row[0] not in leased]

    def _used(self, tx: sqlite3.Connection, chain: Digest) -> bool:
        found = tx.execute(
            "SELECT 1 FROM layers WHERE parent = ? UNION ALL SELECT 1 FROM images WHERE top = ?"
            " UNION ALL SELECT 1 FROM containers WHERE base = ? LIMIT 1",
            (chain, chain, chain),
        ).fetchone()
        return found is not None

    def collect(self, chains: Iterable[Digest]) -> None:
        """Remove the trees of `chains` that have no row, or none any more."""
        for chain in chains:
            with self._staging.directory() as own, self._database.transaction():
                if self._row(chain) is None and self._place(chain).exists():
                    os.rename(self._place(chain), own / chain.encoded)

    def known(self, chain: Digest) -> Layer | None:
        """Return the layer, also one that lost its tree, or None."""
        row = self._row(chain)
        return self._layer(row) if row is not None else None

    def unsettled(self) -> list[Digest]:
        """Return the adopted layers that nobody is about to settle."""
        with self._database.transaction():
            rows = self._database.read("SELECT chain_id FROM layers WHERE location IS NOT NULL")
            leased = self._leases.kept()
        return [Digest(row[0]) for row in rows if row[0] not in leased]

    def strays(self) -> list[str]:
        """Return the names of directories that no row and no lease speaks of."""
        with self._database.transaction():  # nobody is between a rename and its row now
            names = set(os.listdir(self._directory))
            known = self._leases.named()
            known.update(row[0] for row in self._database.read("SELECT chain_id FROM layers"))
        return sorted(name for name in names if f"sha256:{name}" not in known)

    def add_blob(self, diff_id: Digest, digest: Digest, media_type: str, size: int) -> None:
        """Record that the blob `digest` is a tar of the layers `diff_id`, to be kept with them."""
        self._database.write(
            "INSERT INTO layer_blobs (diff_id, digest, media_type, size) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (diff_id, digest, media_type, size),
        )

    def blobs(self, diff_id: Digest) -> list[Descriptor]:
        """Return the blobs that are tars of the layers `diff_id`."""
        rows = self._database.read(
            "SELECT media_type, digest, size FROM layer_blobs WHERE diff_id = ? ORDER BY digest",
            (diff_id,),
        )
        return [Descriptor(row[0], Digest(row[1]), row[2]) for row in rows]

    def _place(self, chain: Digest) -> Path:
        return self._directory / chain.encoded

    def _row(self, chain: Digest) -> Row | None:
        return self._database.one(f"SELECT {_COLUMNS} FROM layers WHERE chain_id = ?", (chain,))

    def _layer(self, row: Row) -> Layer:
        chain, parent, diff_id, size, location = row
        place = self._root / location if location is not None else None
        if place is None or not place.exists():
            place = self._place(Digest(chain))
        return Layer(Digest(chain), parent and Digest(parent), Digest(diff_id), size, place)

    def _insert(
        self,
        tx: sqlite3.Connection,
        chain: Digest,
        parent: Digest | None,
        diff_id: Digest,
        size: int,
        location: str | None,
    ) -> None:
        if parent is not None and self._row(parent) is None:
            raise NotFound(f"no such layer: {parent}")
        tx.execute(
            "INSERT INTO layers (chain_id, parent, diff_id, size, created_ns, location)"
            " VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (chain_id) DO UPDATE SET location = excluded.location",
            (chain, parent, diff_id, size, time.time_ns(), location),
        )
