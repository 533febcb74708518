"""Images: configurations over chains of layers.

An image is a configuration, kept as a blob and named by its digest, over a chain of
layers that the store has unpacked.  `layerstore.images.rows` resolves names, and
`layerstore.images.removal` decides what may be removed.

Threading: any thread.  Source: image-spec config.md; moby
`daemon/images/image_history.go`.
"""

from __future__ import annotations

import builtins
from contextlib import suppress

from layerstore.blobs import BlobStore
from layerstore.db.database import Database
from layerstore.db.image_table import ImageRow, ManifestRow
from layerstore.db.leases import Leases
from layerstore.errors import DigestMismatch, NotFound
from layerstore.images.rows import Image, ImageRows, id_of
from layerstore.layers import LayerStore
from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import (
    INDEX_TYPES,
    Descriptor,
    HistoryEntry,
    ImageConfig,
    Manifest,
    Object,
)
from layerstore.oci.reference import Reference
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # few commands need them
    from layerstore.images.filters import ImageFilters
    from layerstore.images.removal import ImageRemoval, Removed

__all__ = [
    "Descriptor",
    "HistoryEntry",
    "HistoryLine",
    "Image",
    "ImageConfig",
    "ImageStore",
    "Manifest",
]


class HistoryLine(NamedTuple):
    """One line of an image's history: `id` is None unless that step is an image of the store."""

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
        """Return the images that match `filters`, the newest first.

        With `intermediate` images without a name that another image was made from are
        included.  With a filter on names each image has only its matching names.
        Raises NotFound for a `before` or `since` that is not an image.
        """
        from layerstore.images.filters import ImageFilters, matching

        return matching(self, filters or ImageFilters(), intermediate=intermediate)

    def history(self, image: Image | Digest) -> builtins.list[HistoryLine]:
        """Return the steps that made the image, the newest first."""
        image = self.get(id_of(image))
        config = self.config(image)
        sizes = self._layers.sizes()
        chain = iter(config.chain)
        lines = []
        for entry in config.history:
            layer = None if entry.empty_layer else next(chain, None)
            size = sizes.get(layer, 0) if layer else 0
            lines.append((entry, size))
        # The history may be missing; the layers have sizes nevertheless.
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
        """Return the fields of `docker image inspect`."""
        from layerstore.images.inspect import inspect_image

        image = self.get(id_of(image))
        layers = self._layers.chain(image.top)
        tagged_ns = self._rows.last_tagged_ns(image.id)
        return inspect_image(image, self.config(image), layers, tagged_ns)

    def add(self, config_bytes: bytes, *, parent: Digest | None = None) -> Image:
        """Add the image of that configuration, whose layers are in the store; return it.

        If it is in the store already, it stays unchanged.  `parent` is the image it was
        committed from.  A caller within a transaction has stored the configuration as a
        blob before it, so that a crash leaves no row without its blob.  Raises
        InvalidImage, and NotFound for a layer that is missing.
        """
        config = ImageConfig.parse(config_bytes)
        with suppress(NotFound, DigestMismatch):  # what is damaged is stored once more
            self._blobs.read(config.id)
            return self.get(config.id)
        with self._leases.lease("work", "image"):
            self._put(config_bytes, config.id)
            with self._database.transaction():
                chain = config.chain
                self._rows.add(
                    ImageRow(
                        config.id,
                        chain[-1] if chain else None,
                        parent,
                        config.created_ns,
                        self._size_of(chain),
                        config.architecture,
                        config.os,
                    )
                )
        return self.get(config.id)

    def add_manifest(self, image: Image | Digest, manifest: Manifest) -> Digest:
        """Keep a manifest of the image, byte for byte; return its digest.

        A caller within a transaction has stored it as a blob before, as for `add`.
        """
        return self._add_document(image, manifest.data, manifest.media_type)

    def add_index(self, image: Image | Digest, data: bytes, media_type: str) -> Digest:
        """Keep the index that the image was chosen from, as `add_manifest` does."""
        return self._add_document(image, data, media_type)

    def _add_document(self, image: Image | Digest, data: bytes, media_type: str) -> Digest:
        digest = sha256_digest(data)
        with self._leases.lease("work", "manifest"):
            self._put(data, digest)
            with self._database.transaction():
                self.require(image)
                self._rows.add_manifest(ManifestRow(digest, id_of(image), media_type))
        return digest

    def _put(self, data: bytes, digest: Digest) -> None:
        # A caller within a transaction has stored it: see `add`.
        within = self._database.connection.in_transaction
        if not (within and self._blobs.need(digest)):
            self._blobs.put(data, digest)

    def manifests(self, image: Image | Digest) -> builtins.list[Manifest]:
        """Return the manifests kept of the image."""
        return [
            Manifest.parse(self._blobs.read(row.digest), row.media_type)
            for row in self._rows.manifests(id_of(image))
            if row.media_type not in INDEX_TYPES
        ]

    def indexes(self, image: Image | Digest) -> builtins.list[Digest]:
        """Return the digests of the indexes that the image was chosen from; each is a blob."""
        rows = self._rows.manifests(id_of(image))
        return [row.digest for row in rows if row.media_type in INDEX_TYPES]

    def add_repo_digest(self, image: Image | Digest, repository: str, digest: Digest) -> None:
        """Record that in `repository`, a full name, the manifest `digest` is of this image."""
        with self._database.transaction():
            self.require(image)
            self._rows.add_digest(id_of(image), repository, digest)

    def named_blobs(self) -> dict[Digest, str]:
        """Return the configuration and manifests of every image, with what each is, in words."""
        named = {
            row.digest: f"the image {row.image.short}, as its manifest,"
            for row in self._rows.manifests()
        }
        for image_id in self._rows.ids():
            named[image_id] = f"the image {image_id.short}, as its configuration,"
        return named

    def remove(
        self, text: str, *, force: bool = False, prune: bool = True
    ) -> builtins.list[Removed]:
        """Remove the image or the name `text`; return what was untagged and deleted, in order.

        With `prune` parents without a name are removed too.  Raises NoSuchImage,
        InvalidReference, or Conflict with docker's text.
        """
        with self._leases.lease("work", "rmi"):
            with self._database.transaction():
                removal = self.removal()
                removal.remove(text, force=force, prune=prune)
            self.collect(removal)
        return removal.done

    def removal(self) -> ImageRemoval:
        """Begin a removal within the caller's transaction; the caller calls `collect` after it."""
        from layerstore.images.removal import ImageRemoval

        return ImageRemoval(self._database, self, self._layers, self._leases)

    def collect(self, removal: ImageRemoval) -> None:
        """Remove from disk what `removal`, which was committed, has freed."""
        self._layers.collect(removal.layers)
        self._blobs.collect(removal.blobs)

    def _size_of(self, chain: tuple[Digest, ...]) -> int:
        total = 0
        for chain_id in chain:
            layer = self._layers.known(chain_id)
            if layer is None:
                raise NotFound(f"no such layer: {chain_id}")
            total += layer.size
        return total
