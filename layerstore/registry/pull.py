"""pull: an image comes from a registry into the store.

This module alone decides in which order an image is requested, fetched and published.
HEAD comes first: it does not count for the pull limit, and is enough if the store has the
image.  Then come the manifest for the platform, the configuration, and the missing layers:
several at a time, each unpacked while it is downloaded.  Size, digest and diff_id are
compared before a layer is published, and one transaction at the end records the image and
its names.  The bytes that a failed pull has fetched stay in `partial`, and the next pull,
of any process, goes on from there.

Source: distribution-spec "Pull"; moby `distribution/pull_v2.go` for the order of events.
"""

from __future__ import annotations

from contextlib import suppress

from layerstore.errors import (
    DigestMismatch,
    DiskFull,
    LimitExceeded,
    NotFound,
    StoreError,
)
from layerstore.images.images import Image
from layerstore.oci.digest import Digest
from layerstore.oci.documents import INDEX_TYPES, Descriptor, ImageConfig
from layerstore.oci.durations import SECOND
from layerstore.oci.platform import Platform
from layerstore.oci.reference import Reference, familiar
from layerstore.progress import Progress, Status
from layerstore.registry.choice import Chosen, choose, here, parse_config, refuse_other_platform
from layerstore.registry.remote import Document, Head, Source
from layerstore.registry.transfer import PLAIN, Transfer
from layerstore.store import Store
from unionfs.light_typing import NamedTuple

_FORGET_NS = 7 * 86_400 * SECOND  # ns after which an abandoned download is removed


class Pulled(NamedTuple):
    """One image that was asked for; `changed` if its name is of another image than before."""

    name: Reference
    digest: Digest
    image: Digest
    changed: bool


def pull_image(
    store: Store,
    source: Source,
    name: Reference,
    *,
    platform: Platform | None = None,
    transfer: Transfer = PLAIN,
) -> Pulled:
    """Bring the image `name` of the repository `source` into the store.

    `platform` is the one that the user asked for, by default that of this machine.  Raises
    RegistryError, NotFound if there is no such image or none for the platform, InvalidImage,
    DiskFull.
    """
    pulled = _Puller(store, source, platform, transfer).pull(name.with_default_tag())
    store.partial.sweep(_FORGET_NS)
    return pulled


def pull_all(
    store: Store,
    source: Source,
    *,
    platform: Platform | None = None,
    transfer: Transfer = PLAIN,
) -> list[Pulled]:
    """Bring every tag of the repository into the store, as `pull_image` does each."""
    return [
        pull_image(
            store,
            source,
            Reference(source.name, tag),
            platform=platform,
            transfer=transfer,
        )
        for tag in source.tags()
    ]


class _Puller:
    """Pulls images of one repository."""

    def __init__(
        self, store: Store, source: Source, platform: Platform | None, transfer: Transfer
    ) -> None:
        self._store = store
        self._source = source
        self._asked = platform
        self._wanted = platform or here()
        self._transfer = transfer
        self._report = transfer.report

    def pull(self, name: Reference) -> Pulled:
        tag = str(name.digest or name.tag)
        head = self._source.head_manifest(tag)
        if head is not None and head.digest is not None:
            image = self._known(name, head.digest)
            if image is not None:
                self._tell(tag, name)
                return self._named(name, image, head.digest)
        with self._store.leases.lease("work", "pull"):
            return self._fetch(name, tag, head)

    def _fetch(self, name: Reference, tag: str, head: Head | None) -> Pulled:
        top = self._top(tag, head)
        if name.digest is not None and top.digest != name.digest:
            raise DigestMismatch(f"the registry answered {top.digest} for {familiar(name)}")
        image = self._known(name, top.digest)
        self._tell(tag, name)
        if image is not None:
            return self._named(name, image, top.digest)
        chosen = choose(top, self._wanted, self._get)
        return self._bring(name, top, chosen)

    def _tell(self, tag: str, name: Reference) -> None:
        what = tag if name.digest is None else str(name._replace(tag=None))
        self._report(Progress(what, Status.PULLING_FROM, note=name.path, parent=str(name)))

    def _top(self, tag: str, head: Head | None) -> Document:
        """Return the document of the tag, from the store if the store has it."""
        kept = None
        if head is not None and head.digest is not None and head.media_type in INDEX_TYPES:
            kept = _kept(self._store, head.digest, head.media_type)
        return kept or self._source.get_manifest(tag)

    def _get(self, entry: Descriptor) -> Document:
        kept = _kept(self._store, entry.digest, entry.media_type)
        return kept or self._source.get_manifest(entry.digest)

    def _known(self, name: Reference, digest: Digest) -> Image | None:
        """Return the image of `digest` in the store, if it is complete and for the platform."""
        for image in self._store.images.with_digest(name.repository, digest):
            with suppress(StoreError):
                config = self._store.images.config(image)
                if image.top is not None and self._store.layers.need(image.top) is None:
                    continue
                self._store.layers.chain(image.top)
                if self._store.images.indexes(image) or self._asked is not None:
                    refuse_other_platform(config, familiar(name), self._wanted)
                return image
        return None

    def _named(self, name: Reference, image: Image, digest: Digest) -> Pulled:
        """Give the image, which the store has already, the name that the user asked for."""
        if self._store.partial.all():  # a pull that was killed at its end left them
            for manifest in self._store.images.manifests(image):
                for layer in manifest.layers:
                    self._store.partial.remove(layer.digest)
        changed = self._store.images.named(name) != image.id
        if changed:
            self._name(name, image, digest)
        self._report(Progress("", Status.DIGEST, note=digest, parent=str(name)))
        return Pulled(name, digest, image.id, changed)

    def _name(self, name: Reference, image: Image, digest: Digest) -> None:
        """Let `digest`, and the tag if the user asked for one, mean the image."""
        images = self._store.images
        with self._store.database.transaction():
            images.add_repo_digest(image, name.repository, digest)
            if name.digest is None:
                images.tag(image, name)

    def _bring(self, name: Reference, top: Document, chosen: Chosen) -> Pulled:
        manifest = chosen.manifest
        most = self._transfer.limits.layers
        if len(manifest.layers) > most:
            raise LimitExceeded(
                f"the image has {len(manifest.layers)} layers; a union takes {most}"
            )
        data = self._config(manifest.config)
        config, diff_ids = parse_config(data, manifest)
        if self._asked is not None and not chosen.indexes:
            refuse_other_platform(config, familiar(name), self._wanted)
        # This imports the whole union, which a pull of an up-to-date image does not need.
        from layerstore.registry.layers_in import LayersIn

        wanted = list(zip(manifest.layers, diff_ids, strict=True))
        layers = LayersIn(self._store, self._source, str(name), wanted, self._transfer)
        try:
            layers.bring()
            pulled = self._publish(name, top, chosen, config)
        except DiskFull:
            layers.drop_partial()
            raise
        layers.drop_partial()
        self._report(Progress("", Status.DIGEST, note=top.digest, parent=str(name)))
        return pulled

    def _config(self, descriptor: Descriptor) -> bytes:
        if self._store.blobs.need(descriptor.digest):
            with suppress(DigestMismatch, NotFound):
                return self._store.blobs.read(descriptor.digest)
        return self._source.read_blob(descriptor)

    def _publish(
        self, name: Reference, top: Document, chosen: Chosen, config: ImageConfig
    ) -> Pulled:
        """Record the image, whose layers are in the store, with its names."""
        store, images, manifest = self._store, self._store.images, chosen.manifest
        store.blobs.put(config.data)
        store.blobs.put(manifest.data)
        for index in chosen.indexes:
            store.blobs.put(index.data)
        with store.database.transaction():
            image = images.add(config.data)
            images.add_manifest(image, manifest)
            for index in chosen.indexes:
                images.add_index(image, index.data, index.media_type)
            changed = images.named(name) != image.id
            self._name(name, image, top.digest)
            store.remote.add_places(
                name.repository,
                [
                    layer.digest
                    for layer in manifest.layers
                    if store.layers.archives.has(layer.digest)
                ],
            )
        return Pulled(name, top.digest, image.id, changed)


def _kept(store: Store, digest: Digest, media_type: str) -> Document | None:
    """Return a manifest or an index from the store, None if the store lacks it."""
    if store.blobs.need(digest):
        with suppress(DigestMismatch, NotFound):
            return Document(store.blobs.read(digest), media_type, digest)
    return None
