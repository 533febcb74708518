"""push: an image of the store goes to a registry.

This module alone decides which manifest is pushed.  The manifest that an image was pulled
with is sent byte for byte if its layers can be sent as they were pulled, so that the image
has the same digest everywhere.  Otherwise a new manifest is written: in docker's format, or
in OCI's if docker has no media type for a layer.  The store records the new blobs of the
layers for the next push.

Source: distribution-spec "Push"; moby `distribution/push_v2.go` for the order of events.
"""

from __future__ import annotations

from collections.abc import Sequence

from layerstore.errors import NoSuchImage, StoreError
from layerstore.images.images import Image
from layerstore.layers import Layer
from layerstore.oci.digest import Digest
from layerstore.oci.documents import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)
from layerstore.oci.reference import Reference
from layerstore.registry.in_oci import oci_type
from layerstore.registry.layers_out import Compression, LayersOut, parse_compression
from layerstore.registry.remote import Target
from layerstore.registry.transfer import PLAIN, Transfer
from layerstore.store import Store
from layerstore.tar.compression import GZIP
from unionfs.light_typing import NamedTuple


class Pushed(NamedTuple):
    """One tag that was pushed: the digest and the size in bytes of its manifest."""

    name: Reference
    digest: Digest
    size: int


class NothingToPush(StoreError):
    """No image has the name that is to be pushed; the text is docker's."""


def push_image(
    store: Store,
    target: Target,
    name: Reference,
    *,
    compression: Compression | None = None,
    transfer: Transfer = PLAIN,
) -> Pushed:
    """Send the image `name`, a tag, to the repository `target`, where it gets that tag.

    With a `compression` each layer is compressed with it, unless the store keeps a blob of
    that kind.  By default kept blobs are sent as they are, and other layers are compressed
    with gzip.  Raises NothingToPush, RegistryError, DigestMismatch.
    """
    pusher = _Pusher(store, target, compression, transfer)
    with store.leases.lease("work", "push"):
        return pusher.push(name.with_default_tag())


def tags_to_push(store: Store, repository: str) -> list[Reference]:
    """Return every tag that the store has in `repository`; raises NothingToPush for none."""
    found = [
        tag for image in store.images.all() for tag in image.tags if tag.repository == repository
    ]
    if not found:
        raise NothingToPush(f"An image does not exist locally with the tag: {repository}")
    return sorted(found)


class _Pusher:
    """Pushes images to one repository."""

    def __init__(
        self, store: Store, target: Target, compression: Compression | None, transfer: Transfer
    ) -> None:
        self._store = store
        self._target = target
        self._asked = compression
        self._compression = compression or parse_compression(GZIP)
        self._transfer = transfer

    def push(self, name: Reference) -> Pushed:
        store = self._store
        with store.database.transaction():  # one, since each is written back by itself
            image = self._image(name)
            if image.top is not None:
                store.layers.need(image.top)  # a removal meanwhile leaves them
            chain = store.layers.chain(image.top)
            kept = self._kept_manifest(image, chain) if self._asked is None else None
            blobs = [*kept.layers[::-1]] if kept else [self._known(layer) for layer in chain]
        out = LayersOut(store, self._target, self._compression, self._transfer)
        sent = tuple(out.send(chain, blobs, self._neighbours(image))[::-1])
        config = store.blobs.read(image.id)
        if not self._target.has_blob(image.id):
            with self._target.upload() as upload:
                upload.write(config)
                upload.commit(image.id)
        if kept is not None and kept.layers == sent:
            manifest = kept
        else:
            manifest = manifest_of(image.id, len(config), sent)
        self._target.put_manifest(str(name.tag), manifest.data, manifest.media_type)
        self._remember(image, name, manifest)
        return Pushed(name, manifest.digest, len(manifest.data))

    def _image(self, name: Reference) -> Image:
        try:
            return self._store.images.resolve(str(name))
        except NoSuchImage:
            raise NothingToPush(
                f"An image does not exist locally with the tag: {name.repository}"
            ) from None

    def _kept_manifest(self, image: Image, chain: Sequence[Layer]) -> Manifest | None:
        """Return a manifest that the image came with, if its layers can be sent as it says."""
        here = {one.digest for one in image.repo_digests if one.repository == self._target.name}
        manifests = sorted(
            (one for one in self._store.images.manifests(image) if len(one.layers) == len(chain)),
            key=lambda manifest: manifest.digest not in here,
        )
        ways = [self._can_send, self._can_mount] if self._neighbours(image) else [self._can_send]
        for is_possible in ways:
            for kept in manifests:
                if all(map(is_possible, kept.layers[::-1], chain)):
                    return kept
        return None

    def _neighbours(self, image: Image) -> list[str]:
        """Return the repositories of the target's host that have the image, the target too."""
        host = self._target.name.partition("/")[0]
        found = (one.repository for one in image.repo_digests)
        return sorted({name for name in found if name.partition("/")[0] == host})

    def _can_mount(self, blob: Descriptor, layer: Layer) -> bool:
        """Tell whether a neighbour may hold the blob, which another image's stands for here.

        What a push packed is left out: its compression was another.
        """
        packed = self._store.remote.packed(layer.diff_id)
        return self._can_send(blob, layer) or all(row.digest != blob.digest for row in packed)

    def _can_send(self, blob: Descriptor, layer: Layer) -> bool:
        if blob.digest == layer.diff_id:
            return True
        packed = self._store.remote.packed(layer.diff_id)
        return any(
            row.digest == blob.digest and row.compression == str(self._compression)
            for row in packed
        ) or (
            any(own.digest == blob.digest for own in self._store.layers.archives.of(layer.diff_id))
            and self._store.blobs.need(blob.digest)
        )

    def _known(self, layer: Layer) -> Descriptor | None:
        """Return the blob that the layer is sent as, None if it must be compressed first."""
        for blob in self._store.layers.archives.of(layer.diff_id):
            fits = self._asked is None or self._asked.made(blob.media_type)
            if fits and self._store.blobs.need(blob.digest):
                return Descriptor(blob.media_type, blob.digest, blob.size)
        for row in self._store.remote.packed(layer.diff_id):
            if row.compression == str(self._compression):
                return Descriptor(row.media_type, row.digest, row.size)
        return None

    def _remember(self, image: Image, name: Reference, manifest: Manifest) -> None:
        store = self._store
        by_digest = Reference(name.repository, None, manifest.digest)
        if by_digest in image.repo_digests and store.blobs.has(manifest.digest):
            return  # an earlier push, or the pull, recorded all of it
        store.blobs.put(manifest.data)
        with store.database.transaction():
            store.images.add_manifest(image, manifest)
            store.images.add_repo_digest(image, name.repository, manifest.digest)
            store.remote.add_places(name.repository, [blob.digest for blob in manifest.layers])


def manifest_of(config: Digest, size: int, layers: tuple[Descriptor, ...]) -> Manifest:
    """Return a manifest of these layers, the base first, and a configuration of `size` bytes."""
    if all(layer.media_type.startswith(DOCKER_LAYER) for layer in layers):
        return Manifest.of(Descriptor(DOCKER_CONFIG, config, size), layers, DOCKER_MANIFEST)
    return Manifest.of(
        Descriptor(OCI_CONFIG, config, size), tuple(map(_as_oci, layers)), OCI_MANIFEST
    )


def _as_oci(layer: Descriptor) -> Descriptor:
    """Return the descriptor with the OCI media type; the content is the same."""
    return layer._replace(media_type=oci_type(layer.media_type))
