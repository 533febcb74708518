"""save: images of the store go into an archive.

The archive is an OCI layout that every docker reads too: one tar with both indexes over the
same blobs, as docker writes it since version 25.  Layers are assembled from their unpacked
files, and their digest is computed and compared while they are written.  So the digests of
images, layers and manifests are the same after a round trip.

Source: image-spec image-layout.md; moby daemon/internal/image/tarexport.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from layerstore.archive.docker import MANIFEST_FILE, Listed, blob_path, manifest_file
from layerstore.archive.oci import INDEX_FILE, LAYOUT, LAYOUT_FILE, index_file
from layerstore.archive.packaged import Lineage
from layerstore.archive.writer import ArchiveWriter, DirectoryWriter, TarArchiveWriter
from layerstore.errors import DigestMismatch, InvalidReference, NotFound
from layerstore.images.images import Image
from layerstore.layer.tar_split import archive_size, assemble
from layerstore.layers import Layer
from layerstore.oci.digest import Digest, VerifyingReader
from layerstore.oci.documents import OCI_CONFIG, OCI_LAYER, Descriptor, ImageConfig, Manifest
from layerstore.oci.reference import Reference, parse_reference
from layerstore.progress import Progress, Report, Status, silent, ticker
from layerstore.store import Store
from layerstore.tar.pipeline import Tick, Writable

DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_DIRECTORY = "docker-archive", "oci-archive", "oci-dir"


@dataclass
class _Saved:
    """An image to be saved, with its names and the manifest that names its layers."""

    image: Image
    config: ImageConfig
    manifest: Manifest
    names: list[Reference]


def save(
    store: Store,
    names: Sequence[str],
    out: Writable | Path,
    form: str = DOCKER_ARCHIVE,
    *,
    report: Report = silent,
) -> None:
    """Write the images `names` to `out`, a stream, or for OCI_DIRECTORY a new directory.

    A repository without a tag means all its tags.  Raises NotFound before
    anything is written, DigestMismatch if a layer of the store is damaged.
    """
    with ExitStack() as stack:
        stack.enter_context(store.leases.reading("save"))
        images = [_plan(store, *found) for found in _resolve(store, names)]
        writer: ArchiveWriter
        if isinstance(out, Path):
            writer = stack.enter_context(closing(DirectoryWriter(out)))
        else:
            writer = TarArchiveWriter(out)
        for saved in images:
            _write_image(store, saved, writer, report)
        writer.file(INDEX_FILE, index_file([(saved.manifest, saved.names) for saved in images]))
        writer.file(LAYOUT_FILE, LAYOUT)
        if form == DOCKER_ARCHIVE:
            writer.file(MANIFEST_FILE, manifest_file(_listed(images)))
        writer.end()


def _listed(images: list[_Saved]) -> list[Listed]:
    """Return the entries of manifest.json; a parent is named only if docker accepts it."""
    origins = {saved.image.id: Lineage.of(saved.config) for saved in images}
    listed = []
    for saved in images:
        parent = saved.image.parent
        before = None if parent is None else origins.get(parent)
        if before is None or not origins[saved.image.id].follows(before):
            parent = None
        layers = [layer.digest for layer in saved.manifest.layers]
        listed.append(Listed(saved.image.id, saved.names, layers, parent))
    return listed


def _resolve(store: Store, names: Sequence[str]) -> list[tuple[Image, list[Reference]]]:
    """Return the images that `names` select, each once, with the names to save."""
    found: dict[Digest, tuple[Image, list[Reference]]] = {}
    for text in names:
        for image, reference in _meant(store, text):
            _, kept = found.setdefault(image.id, (image, []))
            if reference is not None and reference not in kept:
                kept.append(reference)
    return list(found.values())


def _meant(store: Store, text: str) -> list[tuple[Image, Reference | None]]:
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return [(store.images.resolve(text), None)]
    if reference.tag is None and reference.digest is None:
        tagged = [
            (image, tag)
            for image in store.images.all()
            for tag in image.tags
            if tag.repository == reference.repository
        ]
        if tagged:
            return list(tagged)
    image = store.images.resolve(text)
    named = reference if reference in image.tags else None
    return [(image, named)]


def _plan(store: Store, image: Image, names: list[Reference]) -> _Saved:
    config = store.images.config(image)
    if image.top is not None:
        store.layers.need(image.top)  # a removal meanwhile leaves them
    # A missing layer is an error before anything is written.
    chain = store.layers.chain(image.top)[::-1]
    repositories = {name.repository for name in names}
    preferred = {name.digest for name in image.repo_digests if name.repository in repositories}
    manifests = store.images.manifests(image)
    for kept in sorted(manifests, key=lambda kept: kept.digest not in preferred):
        if len(kept.layers) == len(chain) and all(
            layer.digest == own.diff_id or store.blobs.need(layer.digest)
            for layer, own in zip(kept.layers, chain, strict=True)
        ):
            return _Saved(image, config, kept, names)
    layers = tuple(
        Descriptor(OCI_LAYER, layer.diff_id, archive_size(layer.path)) for layer in chain
    )
    about = Descriptor(OCI_CONFIG, image.id, len(config.data))
    return _Saved(image, config, Manifest.of(about, layers), names)


def _write_image(store: Store, saved: _Saved, writer: ArchiveWriter, report: Report) -> None:
    chain = store.layers.chain(saved.image.top)
    for number, descriptor in enumerate(saved.manifest.layers):
        above = len(chain) - 1 - number
        layer, lowers = chain[above], [lower.diff for lower in chain[above + 1 :]]
        tick = ticker(report, Progress(layer.diff_id.short, Status.SAVING, total=descriptor.size))
        if descriptor.digest == layer.diff_id:
            write = _assembler(layer, lowers, tick)
        else:
            write = _copier(store, descriptor)
        writer.blob(blob_path(descriptor.digest), descriptor.size, write)
    writer.file(blob_path(saved.image.id), saved.config.data)
    writer.file(blob_path(saved.manifest.digest), saved.manifest.data)


def _assembler(layer: Layer, lowers: list[Path], tick: Tick) -> Callable[[Writable], None]:
    def write(out: Writable) -> None:
        found = assemble(layer.path, out, lowers=lowers, tick=tick)
        if found.diff_id != layer.diff_id:
            raise DigestMismatch(
                f"the layer {layer.diff_id.short} has changed on disk since it was published: its "
                f"digest is now {found.diff_id}; `pyunion check` tells what changed"
            )

    return write


def _copier(store: Store, descriptor: Descriptor) -> Callable[[Writable], None]:
    def write(out: Writable) -> None:
        try:
            with store.blobs.open(descriptor.digest) as blob:
                reader = VerifyingReader(blob, descriptor.digest, descriptor.size)
                while data := reader.read(1 << 20):
                    view = memoryview(data)
                    while view:
                        view = view[out.write(view) or 0 :]
        except NotFound:
            raise NotFound(f"the blob {descriptor.digest} is missing from the store") from None

    return write
