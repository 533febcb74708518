"""Images: configurations over chains of layers, and all that is done with them.

An image is a configuration, kept as a blob and named by its digest, over a
chain of layers that the store holds unpacked.  Rows and names are
`layerstore.images.rows`', the rules of removal `layerstore.images.removal`'s.

Threading: any thread.  Source: image-spec config.md; moby
`daemon/images/image_history.go`.
"""

from __future__ import annotations

import builtins
import time
from dataclasses import dataclass

from layerstore.blobs import BlobStore
from layerstore.db.database import Database
from layerstore.db.leases import Leases
from layerstore.errors import NotFound
from layerstore.images.filters import ImageFilters, matching
from layerstore.images.inspect import inspect_image
from layerstore.images.removal import ImageRemoval, Removed
from layerstore.images.rows import COLUMNS, Image, ImageRows, id_of
from layerstore.layers import LayerStore
from layerstore.oci.digest import Digest
from layerstore.oci.documents import (
    Descriptor,
    HistoryEntry,
    ImageConfig,
    Manifest,
    Object,
)
from layerstore.oci.reference import Reference

__all__ = [
    "Descriptor",
    "HistoryEntry",
    "HistoryLine",
    "Image",
    "ImageConfig",
    "ImageFilters",
    "ImageStore",
    "Manifest",
    "Removed",
]


@dataclass(frozen=True)
class HistoryLine:
    """One line of an image's history: `id` is None where no local image is of that step."""

    id: Digest | None
    created_ns: int
    created_by: str
    size: int
    comment: str
    tags: tuple[Reference, ...] = ()


class ImageStore(ImageRows):
    """The images of a store."""

    def __init__(
        self, database: Database, blobs: BlobStore, layers: LayerStore, leases: Leases
    ) -> None:
        super().__init__(database, blobs)
        self._layers = layers
        self._leases = leases

    def list(
        self, filters: ImageFilters | None = None, *, intermediate: bool = False
    ) -> builtins.list[Image]:
        """Return the images that `filters` let through, the newest first.

        `intermediate` includes images without a name that another was made
        from; what a filter on names leaves of an image's names is all the
        result has.  Raises NotFound for a `before` or `since` that is no image.
        """
        return matching(self, filters or ImageFilters(), intermediate=intermediate)

    def history(self, image: Image | Digest) -> builtins.list[HistoryLine]:
        """Return how the image came to be, the newest step first."""
        image = self.get(id_of(image))
        config = self.config(image)
        sizes: dict[str, int] = dict(self._database.read("SELECT chain_id, size FROM layers"))
        chain = iter(config.chain)
        lines = []
        for entry in config.history:
            layer = None if entry.empty_layer else next(chain, None)
            size = sizes.get(layer, 0) if layer else 0
            lines.append((entry, size))
        # A writer may leave the history out, but not what the layers weigh.
        lines += [(HistoryEntry(), sizes.get(layer, 0)) for layer in chain]
        step: Image | None = image
        done = []
        for entry, size in reversed(lines):
            names = step.tags if step else ()
            done.append(
                HistoryLine(
                    step.id if step else None,
                    entry.created_ns,
                    entry.created_by,
                    size,
                    entry.comment,
                    names,
                )
            )
            step = self._parent(step)
        return done

    def inspect(self, image: Image | Digest) -> Object:
        """Return all there is to say of the image, in the fields of `docker image inspect`."""
        image = self.get(id_of(image))
        row = self._database.one("SELECT max(tagged_ns) FROM tags WHERE image = ?", (image.id,))
        layers = self._layers.chain(image.top)
        return inspect_image(image, self.config(image), layers, row[0] if row else None)

    def add(self, config_bytes: bytes, *, parent: Digest | None = None) -> Image:
        """Add the image of that configuration, whose layers are in the store; return it.

        Where it is there already it stays as it is.  `parent` is the image it
        was committed from.  Within a transaction of the caller's, who then has
        put the configuration as a blob before it, for a crash to leave it named.
        Raises InvalidImage, and NotFound for a layer that is not there.
        """
        config = ImageConfig.parse(config_bytes)
        with self._leases.lease("work", "image"):
            self._put(config_bytes, config.id)
            with self._database.transaction() as tx:
                chain = config.chain
                size = self._size_of(chain)
                tx.execute(
                    f"INSERT INTO images ({COLUMNS}, added_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (id) DO NOTHING",
                    (
                        config.id,
                        chain[-1] if chain else None,
                        parent,
                        config.created_ns,
                        size,
                        config.architecture,
                        config.os,
                        time.time_ns(),
                    ),
                )
        return self.get(config.id)

    def add_manifest(self, image: Image | Digest, manifest: Manifest) -> Digest:
        """Keep a manifest of the image, byte for byte; return its digest.

        Within a transaction of the caller's as `add`.
        """
        digest = manifest.digest
        with self._leases.lease("work", "manifest"):
            self._put(manifest.data, digest)
            with self._database.transaction() as tx:
                self.require(image)
                tx.execute(
                    "INSERT INTO manifests (digest, image, media_type) VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET image = excluded.image",
                    (digest, id_of(image), manifest.media_type),
                )
        return digest

    def _put(self, data: bytes, digest: Digest) -> None:
        # A caller in a transaction has put it: see `add`.
        within = self._database.connection.in_transaction
        if not (within and self._blobs.need(digest)):
            self._blobs.put(data, digest)

    def manifests(self, image: Image | Digest) -> builtins.list[Manifest]:
        """Return the manifests kept of the image."""
        rows = self._database.read(
            "SELECT digest, media_type FROM manifests WHERE image = ? ORDER BY digest",
            (id_of(image),),
        )
        return [Manifest.parse(self._blobs.read(Digest(row[0])), row[1]) for row in rows]

    def add_repo_digest(self, image: Image | Digest, repository: str, digest: Digest) -> None:
        """Record that the manifest `digest` of `repository`, in full, is of this image."""
        with self._database.transaction() as tx:
            self.require(image)
            tx.execute(
                "INSERT INTO repo_digests (repository, digest, image) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET image = excluded.image",
                (repository, digest, id_of(image)),
            )

    def remove(
        self, text: str, *, force: bool = False, prune: bool = True
    ) -> builtins.list[Removed]:
        """Remove the image or the name `text`; return what was untagged and deleted, in order.

        `prune` removes parents without a name too.  Raises NotFound,
        InvalidReference, or Conflict in docker's words.
        """
        with self._leases.lease("work", "rmi"):
            with self._database.transaction():
                removal = self.removal()
                removal.remove(text, force=force, prune=prune)
            self.collect(removal)
        return removal.done

    def removal(self) -> ImageRemoval:
        """Begin a removal within the caller's transaction; `collect` ends it after."""
        return ImageRemoval(self._database, self, self._layers, self._leases)

    def collect(self, removal: ImageRemoval) -> None:
        """Take from disk what a committed removal freed."""
        self._layers.collect(removal.layers)
        self._blobs.collect(removal.blobs)

    def _size_of(self, chain: tuple[Digest, ...]) -> int:
        total = 0
        for layer in chain:
            row = self._database.one("SELECT size FROM layers WHERE chain_id = ?", (layer,))
            if row is None:
                raise NotFound(f"no such layer: {layer}")
            total += int(row[0])
        return total
