"""Layers: unpacked trees in overlay format, immutable, shared by all images with the same chain.

A layer is a directory named by its chain_id, with `diff` (the tree), `index` (what
`check` compares the tree with) and `tar-split` (what re-creates its tar).  It is
published atomically: built in staging, written back, and renamed into place in the
transaction that inserts its row.  A directory without a row is a leftover, which a
publication replaces; a row without its directory, as a repair can leave, is completed by
the next publication of the same layer.

A commit publishes a tree that a mount is using and that cannot be in staging: `adopt`
inserts the row with the `location` where the tree is, and `settle` moves the tree to its
own place afterwards.

A layer of no image is collected unless its maker holds a work lease from before `publish`
or `adopt`, or from before `need` found it.

Threading: any thread; the database's write lock orders them.
Source: image-spec config.md "Layer ChainID".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.db.foundation import DirectoryPart, Foundation
from layerstore.db.layer_table import LayerRow, LayerTable
from layerstore.errors import NotFound
from layerstore.layer_uses import LayerArchives, LayerUses
from layerstore.oci.digest import Digest, chain_id
from unionfs.light_typing import NamedTuple

_PARTS = ("diff", "index", "tar-split", "replaced")


class _Parts:
    """The files in the directory `path` of a layer, published or being built."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def diff(self) -> Path:
        """The tree, in overlay format.

        If another store has the layer, `diff` is a link to the tree there.
        """
        tree = self.path / "diff"
        try:
            return Path(os.readlink(tree))
        except OSError:
            return tree

    @property
    def is_elsewhere(self) -> bool:
        """Whether the tree is in another store, which a container engine wrote."""
        return (self.path / "diff").is_symlink()

    @property
    def index(self) -> Path:
        """The file that describes every path of the tree, as it was published."""
        return self.path / "index"

    @property
    def tar_split(self) -> Path:
        """The file with all of the layer's tar but the content of its files."""
        return self.path / "tar-split"


class Layer(_Parts):
    """A published layer; `size` is the bytes of its files' content."""

    def __init__(
        self, chain_id: Digest, parent: Digest | None, diff_id: Digest, size: int, path: Path
    ) -> None:
        super().__init__(path)
        self.chain_id = chain_id
        self.parent = parent
        self.diff_id = diff_id
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layer) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.chain_id)


class Staging(_Parts):
    """A layer that is being built: `diff` is empty, and the builder makes the rest."""


class Freed(NamedTuple):
    """Layers that lost their last user, the topmost first, and the blobs they came from."""

    layers: list[Layer]
    blobs: list[Digest]


class LayerStore(DirectoryPart):
    """The directory `<root>/layers` and its rows.

    `uses` says what needs a layer, `archives` which blobs are kept with the layers.
    """

    _KEYS = "sha256:"

    def __init__(self, foundation: Foundation) -> None:
        super().__init__(foundation, "layers")
        self._rows = LayerTable(foundation.database)
        self.uses = LayerUses(foundation)
        self.archives = LayerArchives(self._rows)

    @contextmanager
    def stage(self) -> Iterator[Staging]:
        """Make a directory to build a layer in; it is removed at the end unless published."""
        with self._leases.lease("work", "layer"), self._staging.to_build() as own:
            staging = Staging(own / "layer")
            staging.path.mkdir(mode=0o700)
            staging.diff.mkdir()
            staging.diff.chmod(0o755)  # the umask does not count
            yield staging

    def publish(self, staging: Staging, parent: Digest | None, diff_id: Digest, size: int) -> Layer:
        """Publish the layer that was built, and return it.

        `size` is the bytes of its files' content.  If the same layer is there already,
        that one stays and the staged one is dropped.  Raises NotFound if `parent` is not
        in the store.
        """
        self._durability.tree(staging.path)
        chain = chain_id(parent, diff_id)
        # Committed before the directory is renamed, so that a recovery finds it.
        self._leases.hold("layer", chain)
        try:
            with self._database.transaction():
                there = self.find(chain)
                if there is not None:
                    return there
                self._insert(LayerRow(chain, parent, diff_id, size, None))
                self._move_in(staging.path, chain, staging.path.with_name("replaced"))
        except BaseException:
            self.collect([chain])
            raise
        return self.get(chain)

    def _move_in(self, source: Path, chain: Digest, aside: Path) -> None:
        """Rename `source` to its place; anything there has no row and is moved to `aside`."""
        self._rename_in(source, chain, aside)
        self._durability.directory(self.path)

    def _rename_in(self, source: Path, chain: Digest, aside: Path) -> None:
        target = self._place(chain)
        with suppress(FileNotFoundError):
            os.rename(target, aside)
        os.rename(source, target)

    def adopt(
        self,
        location: Path | str,
        parent: Digest | None,
        diff_id: Digest,
        size: int,
    ) -> Layer:
        """Record the tree at `location`, beneath the store's root, as a layer.

        Part of the caller's transaction, which also makes the image and changes the
        container; the caller has written the tree back (`Durability.tree`) before it,
        and calls `settle` after it.  If the same layer is there already, that one is
        returned and `location` stays the caller's.
        """
        relative = os.path.relpath(self._root / location, self._root)
        chain = chain_id(parent, diff_id)
        self._leases.hold("layer", chain)
        there = self.find(chain)
        if there is not None:
            return there
        self._insert(LayerRow(chain, parent, diff_id, size, relative))
        return self.get(chain)

    def settle(self) -> list[Layer]:
        """Move every adopted tree to its own place; return those that were moved."""
        if not self._rows.unsettled():
            return []
        moved: list[Digest] = []
        with self._staging.directory() as own, self._database.transaction():
            left = set()
            for number, chain in enumerate(self._rows.unsettled()):
                row = self._rows.get(chain)
                if row is None or row.location is None:
                    continue  # another process settled it
                source = self._root / row.location
                if source.exists():
                    self._rename_in(source, chain, own / f"replaced-{number}")
                    left.add(source.parent)
                elif not self._place(chain).exists():
                    continue  # lost; `check` reports it
                moved.append(chain)
            # The names are on disk before the rows say so, and before the rename is forgotten.
            if moved:
                self._durability.directory(self.path)
            for directory in left:
                self._durability.directory(directory)
            for chain in moved:
                self._rows.settle(chain)
        return [self.get(chain) for chain in moved]

    def find(self, chain: Digest) -> Layer | None:
        """Return the layer, or None if its row or its tree is missing."""
        row = self._rows.get(chain)
        if row is None:
            return None
        layer = self._layer(row)
        return layer if layer.diff.exists() else None

    def exists(self, chain: Digest) -> bool:
        """Tell whether `find` would find the layer, at less cost."""
        row = self._rows.get(chain)
        if row is None:
            return False
        if row.location is None:
            return os.path.exists(f"{self.path}/{chain.encoded}/diff")
        return self._layer(row).diff.exists()

    def get(self, chain: Digest) -> Layer:
        """Return the layer; raises NotFound if its row or its tree is missing."""
        row = self._rows.get(chain)
        if row is None:
            raise NotFound(f"no such layer: {chain}")
        layer = self._layer(row)
        if not layer.diff.exists():
            raise NotFound(
                f"the layer {chain.short} has lost its files; `pyunion check` shows which images "
                "need it, and loading one of them again restores it"
            )
        return layer

    def need(self, chain: Digest) -> Layer | None:
        """Return the layer, leased for the work of this process, or None.

        In a store that is only read there are no leases.
        """
        if self._database.read_only:
            return self.find(chain)
        with self._database.transaction(durable=False):
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
        """Return every layer, also one that lost its tree; a parent comes before its children."""
        return [self._layer(row) for row in self._rows.all()]

    def forget(self, chain: Digest) -> None:
        """Delete the row of a layer that nothing needs; its tree is the caller's."""
        self._rows.delete(chain)

    def free(self, top: Digest | None) -> Freed:
        """Delete the rows of the chain `top` that nothing needs, the topmost first.

        A layer is needed by an image, a container or a cached step of a build on top of it,
        by a layer above it and by a lease; its blobs are needed by every layer of its
        diff_id.  The caller `collect`s both after its transaction.
        """
        freed = Freed([], [])
        with self._database.transaction():
            leased = self._leases.kept()
            while top is not None and not self._rows.is_parent(top) and not self.uses.is_top(top):
                row = self._rows.get(top)
                if row is None:
                    break
                if top in leased:
                    self._leases.afterwards(top)
                    break
                layer = self._layer(row)
                self._rows.delete(top)
                freed.layers.append(layer)
                freed.blobs.extend(self._rows.delete_blobs_of(layer.diff_id))
                top = layer.parent
            self._leases.hold("gone", *(layer.chain_id for layer in freed.layers), *freed.blobs)
        return freed

    def unneeded(self) -> list[Digest]:
        """Return the layers without one above them that nothing needs, the build cache included."""
        with self._database.still():  # rows and leases are of the same moment
            used = self.uses.tops()
            return [chain for chain in self._rows.childless() if chain not in used]

    def collect(self, chains: Iterable[Digest]) -> None:
        """Remove the trees of those of `chains` that have no row."""
        self._discard(chain.encoded for chain in chains)

    def _has_row(self, name: str) -> bool:
        return self._rows.get(Digest(self._KEYS + name)) is not None

    def _row_names(self) -> set[str]:
        return {row.chain_id.encoded for row in self._rows.all()}

    def forget_builds(self, *, until_ns: int | None = None, everything: bool = False) -> int:
        """Forget steps of the build cache; return how many.  Part of the caller's transaction.

        Those that lead to layers which an image, a container or a lease needs stay, unless
        `everything` goes; steps that were done after `until_ns` stay in any case.
        """
        if everything:
            return self.uses.forget_builds(set(), until_ns)
        parents = {row.chain_id: row.parent for row in self._rows.all()}
        kept: set[str] = set()
        for top in self.uses.needed():
            chain: str | None = top
            while chain is not None and chain not in kept:
                kept.add(chain)
                chain = parents.get(Digest(chain))
        return self.uses.forget_builds(kept, until_ns)

    def known(self, chain: Digest) -> Layer | None:
        """Return the layer, also one that lost its tree, or None."""
        row = self._rows.get(chain)
        return self._layer(row) if row is not None else None

    def strangers(self) -> list[Path]:
        """Return what is in the directories of layers beside their own files."""
        found = []
        for layer in self.all():
            if layer.path.parent == self.path:
                with suppress(FileNotFoundError, NotADirectoryError):
                    names = sorted(os.listdir(layer.path))
                    found += [layer.path / name for name in names if name not in _PARTS]
        return found

    def unsettled(self) -> list[Digest]:
        """Return the adopted layers that no process is about to settle."""
        with self._database.still():
            leased = self._leases.kept()
            return [chain for chain in self._rows.unsettled() if chain not in leased]

    def sizes(self) -> dict[Digest, int]:
        """Return the bytes of every layer's files."""
        return self._rows.sizes()

    def _place(self, chain: Digest) -> Path:
        return self.path / chain.encoded

    def _layer(self, row: LayerRow) -> Layer:
        place = self._root / row.location if row.location is not None else None
        if place is None or not place.exists():
            place = self._place(row.chain_id)
        return Layer(row.chain_id, row.parent, row.diff_id, row.size, place)

    def _insert(self, row: LayerRow) -> None:
        if row.parent is not None and self._rows.get(row.parent) is None:
            raise NotFound(f"no such layer: {row.parent}")
        self._rows.put(row)
