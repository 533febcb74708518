"""save and load: images between the store and an archive.

This module alone decides how an image of an archive becomes an image of the store.
No more is read than the announced sizes, the digest of a blob is checked before it is
unpacked, and a layer is published only if it unpacks to the diff_id in the configuration.
When all parts are in the store, one transaction records the images and their
names, so either the whole archive is loaded or nothing.  Before that transaction the
store's write lock is held only while a layer or a blob is recorded.

The archive that is written is an OCI layout that every docker reads too: one tar
with both indexes over the same blobs, as docker writes it since version 25.
Layers are assembled from their unpacked files, and their digest is computed and compared
while they are written.  So the digests of images, layers and manifests are the
same after a round trip.

Source: image-spec image-layout.md; moby daemon/internal/image/tarexport.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from layerstore.archive.docker import (
    MANIFEST_FILE,
    Listed,
    blob_path,
    manifest_file,
    read_docker,
)
from layerstore.archive.members import Members, Section, open_members
from layerstore.archive.oci import INDEX_FILE, LAYOUT, LAYOUT_FILE, index_file, read_oci
from layerstore.archive.packaged import Packaged
from layerstore.archive.writer import ArchiveWriter, DirectoryWriter, TarArchiveWriter
from layerstore.errors import (
    DigestMismatch,
    InvalidImage,
    InvalidReference,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    shown,
)
from layerstore.images.images import Image
from layerstore.layer.tar_split import archive_size, assemble
from layerstore.layer.unpack import unpack
from layerstore.layers import Layer
from layerstore.limits import DEFAULT, Limits
from layerstore.oci.digest import Digest, VerifyingReader, chain_id
from layerstore.oci.documents import (
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
    HistoryEntry,
    ImageConfig,
    Manifest,
)
from layerstore.oci.platform import Platform, suits
from layerstore.oci.reference import Reference, parse_reference
from layerstore.progress import Report, packed_ticker, ticker
from layerstore.store import Store
from layerstore.tar.compression import Readable, open_decompressed
from layerstore.tar.pipeline import Tick, Writable
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.privilege import is_machine_root

_ENDINGS = re.compile(r"(?:\.(?:tar|oci|tgz|tbz2|txz|gz|zst|xz|bz2))*$")

DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_DIRECTORY = "docker-archive", "oci-archive", "oci-dir"


class Loaded(NamedTuple):
    """One name, or one image without a name, that `load` brought into the store.

    `renamed` is the image that had the name before.
    """

    image: Digest
    name: Reference | None
    renamed: Digest | None = None


def load(
    store: Store,
    source: Path | Readable,
    *,
    platform: Platform | None = None,
    name: str | None = None,
    progress: Report | None = None,
    limits: Limits = DEFAULT,
) -> list[Loaded]:
    """Bring the images of `source` into the store: a file, a directory, or a stream.

    With `platform` only images for it are loaded; by default the image for this machine
    is taken from an image index, and every other image is loaded.
    An image whose name is only a tag gets the repository `name`, by default the
    name of the file or directory `source`.  Raises InvalidImage if `source` is not an
    archive of images, StoreError.
    """
    if name is None and isinstance(source, Path):
        name = source.name
    with store.leases.lease("work", "load"), store.staging.to_build() as spool:
        members = open_members(source, spool, limits)
        try:
            loader = _Loader(store, members, progress, limits)
            listed = _read(members, platform, _repository(name or ""))
            if sum(max(len(packaged.names), 1) for packaged in listed) > limits.images:
                raise LimitExceeded(f"the archive has more than {limits.images:,} images or names")
            listed = _merged(listed)
            ready = [(loader.bring(packaged), packaged) for packaged in listed]
            parents = _parents(ready)
            with store.database.transaction():
                added: set[Digest] = set()
                lines = [line for image in ready for line in publish_image(store, *image, added)]
                for image, parent in parents:
                    store.images.set_parent(image, parent)
                return lines
        finally:
            members.close()


def _repository(name: str) -> str:
    """Return a repository named as the file `name`, "" if the name is not a valid one."""
    stem = _ENDINGS.sub("", name)
    with suppress(InvalidReference):
        if parse_reference(stem) == Reference(parse_reference(stem).repository):
            return stem
    return ""


def _read(members: Members, platform: Platform | None, repository: str) -> list[Packaged]:
    """Return the images in an archive that are for `platform`; raises InvalidImage for none."""
    found = _read_all(members, platform, repository)
    if platform is None:
        return found
    fitting = [packaged for packaged in found if suits(_platform(packaged), platform)]
    if not fitting:
        raise InvalidImage(f"the archive has no image for {platform}")
    return fitting


def _platform(packaged: Packaged) -> Platform:
    config = ImageConfig.parse(packaged.config)
    return Platform(config.os, config.architecture, config.variant)


def _read_all(members: Members, platform: Platform | None, repository: str) -> list[Packaged]:
    """Return the images in an archive, with OCI's manifests, if it has them, and docker's names."""
    oci, docker = read_oci(members, platform, repository), read_docker(members, platform)
    if oci is None and docker is None:
        raise InvalidImage(
            f"the archive is neither an OCI layout nor one of docker's: it has no {INDEX_FILE} "
            f"and no {MANIFEST_FILE}; a root filesystem is brought in by import"
        )
    if not oci:
        return docker or []
    known: dict[Digest, list[Packaged]] = {}
    for packaged in docker or ():
        known.setdefault(packaged.id, []).append(packaged)
    merged = []
    for found in oci:
        # The names go to the first manifest of an image; a second one has only its own.
        also = known.pop(found.id, [])
        names = dict.fromkeys((*found.names, *(name for same in also for name in same.names)))
        parent = also[-1].parent if also else found.parent
        merged.append(replace(found, names=tuple(names), parent=parent))
    return merged


def _merged(listed: Sequence[Packaged]) -> list[Packaged]:
    """Merge images that differ only in their names, and keep the order of `listed`."""
    found: dict[object, list[Packaged]] = {}
    for packaged in listed:
        manifest = packaged.manifest.digest if packaged.manifest is not None else None
        found.setdefault((packaged.id, packaged.layers, manifest), []).append(packaged)
    merged = []
    for same in found.values():
        names = dict.fromkeys(name for packaged in same for name in packaged.names)
        # docker reads the entries in order, so the last one wins.
        merged.append(replace(same[-1], names=tuple(names)))
    return merged


def publish_image(
    store: Store, config: ImageConfig, packaged: Packaged, added: set[Digest]
) -> list[Loaded]:
    """Record an image, whose layers and blobs are in the store, with its names.

    Part of the caller's transaction; `added` are the images that it recorded before.
    """
    image = config.id
    if image not in added:
        added.add(image)
        store.images.add(config.data)
    if packaged.manifest is not None:
        store.images.add_manifest(image, packaged.manifest)
    lines = []
    for name in packaged.names:
        if packaged.manifest is not None:
            store.images.add_repo_digest(image, name.repository, packaged.manifest.digest)
        before = store.images.tag(image, name)
        lines.append(Loaded(image, name, before))
    return lines or [Loaded(image, None)]


class _Origin(NamedTuple):
    """The fields that show whether one image was made from another."""

    history: tuple[HistoryEntry, ...]
    layers: int

    @classmethod
    def of(cls, config: ImageConfig) -> _Origin:
        # Times are compared as points in time: docker writes the same one in several ways.
        history = tuple(entry._replace(created=str(entry.created_ns)) for entry in config.history)
        return cls(history, len(config.diff_ids))

    def follows(self, parent: _Origin) -> bool:
        """Tell whether this image was made from `parent` in one step."""
        if not self.history and not parent.history:
            return self.layers > parent.layers  # so that the links form no circle
        return self.history[:-1] == parent.history and len(self.history) > len(parent.history)


def _parents(ready: Sequence[tuple[ImageConfig, Packaged]]) -> list[tuple[Digest, Digest]]:
    """Return (image, parent) for each image whose parent is in the archive too.

    Raises InvalidImage if the archive names a parent that docker would refuse.
    """
    asked = {packaged.id: packaged.parent for _, packaged in ready if packaged.parent}
    needed = {*asked, *asked.values()}
    origins = {
        packaged.id: _Origin.of(config) for config, packaged in ready if packaged.id in needed
    }
    found = []
    for image, named in asked.items():
        if named in origins and named != image:
            parent = Digest(named)
            if not origins[image].follows(origins[parent]):
                raise InvalidImage(f"image {parent} is not a valid parent for {image}")
            found.append((image, parent))
    return found


class _Loader:
    """Brings the images of one archive in."""

    def __init__(
        self, store: Store, members: Members, progress: Report | None, limits: Limits
    ) -> None:
        self._store = store
        self._members = members
        self._progress = progress
        self._limits = limits
        self._privileged = is_machine_root()
        # An archive may name one layer in thousands of images.
        self._brought: dict[tuple[Digest, Digest | None], Layer] = {}

    def bring(self, packaged: Packaged) -> ImageConfig:
        """Bring the layers and blobs of one image into the store; return its configuration."""
        config = ImageConfig.parse(packaged.config)
        diff_ids = config.diff_ids
        if len(diff_ids) != len(packaged.layers):
            raise InvalidImage(
                f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, "
                f"got {len(packaged.layers)}"
            )
        if len(diff_ids) > self._limits.layers:
            raise LimitExceeded(
                f"the image has {len(diff_ids)} layers; a union takes {self._limits.layers}"
            )
        below: list[Layer] = []
        descriptors = packaged.descriptors or (None,) * len(diff_ids)
        for name, diff_id, descriptor in zip(packaged.layers, diff_ids, descriptors, strict=True):
            below.insert(0, self._layer(name, diff_id, descriptor, below))
        self._store.blobs.put(config.data)
        if packaged.manifest is not None:
            self._store.blobs.put(packaged.manifest.data)
        return config

    def _layer(
        self, name: str, diff_id: Digest, descriptor: Descriptor | None, below: list[Layer]
    ) -> Layer:
        parent = below[0].chain_id if below else None
        chain = chain_id(parent, diff_id)
        key = chain, descriptor.digest if descriptor is not None else None
        layer = self._brought.get(key)
        if layer is None:
            layer = self._brought[key] = self._bring_layer(name, chain, diff_id, descriptor, below)
        return layer

    def _bring_layer(
        self,
        name: str,
        chain: Digest,
        diff_id: Digest,
        descriptor: Descriptor | None,
        below: list[Layer],
    ) -> Layer:
        there = self._store.layers.need(chain)
        packed = descriptor is not None and descriptor.digest != diff_id
        if there is not None and not (
            packed and descriptor and not self._is_kept(descriptor.digest, diff_id)
        ):
            return there
        section = self._members.open(name)
        if section is None:
            raise InvalidImage(f"the archive lacks {shown(name)}, a layer of the image")
        if descriptor is not None and section.size != descriptor.size:
            raise SizeMismatch(
                f"{shown(name)} in the archive has {section.size} bytes; "
                f"{descriptor.size} were announced"
            )
        if packed and descriptor is not None:
            section = self._keep(section, descriptor)
            if there is not None:
                self._refuse_other(section, diff_id, len(below))
        layer = there or self._unpack(section, diff_id, below)
        if packed and descriptor is not None:
            self._store.layers.add_blob(
                diff_id, descriptor.digest, descriptor.media_type, descriptor.size
            )
        return layer

    def _is_kept(self, blob: Digest, diff_id: Digest) -> bool:
        """Tell whether the store has `blob`, and knows that it unpacks to the layer `diff_id`."""
        return self._store.blobs.need(blob) and any(
            known.digest == blob for known in self._store.layers.blobs(diff_id)
        )

    def _keep(self, section: Section, descriptor: Descriptor) -> Section:
        """Store the compressed layer as a blob, which checks its digest; return the blob."""
        self._store.blobs.put(
            io.BufferedReader(section, 1 << 20), descriptor.digest, descriptor.size
        )
        with self._store.blobs.open(descriptor.digest) as blob:
            return Section(os.dup(blob.fileno()), 0, descriptor.size, owned=True)

    def _refuse_other(self, section: Section, diff_id: Digest, number: int) -> None:
        """Raise DigestMismatch unless `section` unpacks to the layer that exists already.

        Without this check, every later save would write this blob instead of the layer.
        """
        reader = VerifyingReader(
            io.BufferedReader(open_decompressed(section, self._limits), 1 << 20)
        )
        found = reader.finish()
        if found != diff_id:
            raise _mismatch(number, diff_id, found)

    def _unpack(self, section: Section, diff_id: Digest, below: list[Layer]) -> Layer:
        with self._store.layers.stage() as staging:
            stream = open_decompressed(section, self._limits)
            tick = packed_ticker(
                self._progress, diff_id.short, "Loading layer", stream, section.size
            )
            done = unpack(
                stream,
                staging.path,
                privileged=self._privileged,
                lowers=[layer.diff for layer in below],
                limits=self._limits,
                tick=tick,
            )
            if done.diff_id != diff_id:
                raise _mismatch(len(below), diff_id, done.diff_id)
            parent = below[0].chain_id if below else None
            return self._store.layers.publish(staging, parent, diff_id, done.size)


def _mismatch(number: int, expected: Digest, found: Digest) -> DigestMismatch:
    return DigestMismatch(
        f'invalid diffID for layer {number}: expected "{expected}", got "{found}"'
    )


# -- save --


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
    progress: Report | None = None,
) -> None:
    """Write the images `names` to `out`, a stream, or for OCI_DIRECTORY a new directory.

    A repository without a tag means all its tags.  Raises NotFound before
    anything is written, DigestMismatch if a layer of the store is damaged.
    """
    with store.leases.lease("work", "save"):
        images = [_plan(store, *found) for found in _resolve(store, names)]
        writer: ArchiveWriter
        if isinstance(out, Path):
            writer = DirectoryWriter(out)
        else:
            writer = TarArchiveWriter(out)
        for saved in images:
            _write_image(store, saved, writer, progress)
        writer.file(INDEX_FILE, index_file([(saved.manifest, saved.names) for saved in images]))
        writer.file(LAYOUT_FILE, LAYOUT)
        if form == DOCKER_ARCHIVE:
            writer.file(MANIFEST_FILE, manifest_file(_listed(images)))
        writer.end()


def _listed(images: list[_Saved]) -> list[Listed]:
    """Return the entries of manifest.json; a parent is named only if docker accepts it."""
    origins = {saved.image.id: _Origin.of(saved.config) for saved in images}
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


def _write_image(
    store: Store, saved: _Saved, writer: ArchiveWriter, progress: Report | None
) -> None:
    chain = store.layers.chain(saved.image.top)
    for number, descriptor in enumerate(saved.manifest.layers):
        above = len(chain) - 1 - number
        layer, lowers = chain[above], [lower.diff for lower in chain[above + 1 :]]
        tick = ticker(progress, layer.diff_id.short, "Saving layer", descriptor.size)
        if descriptor.digest == layer.diff_id:
            write = _assembler(layer, lowers, tick)
        else:
            write = _copier(store, descriptor)
        writer.blob(blob_path(descriptor.digest), descriptor.size, write)
    writer.file(blob_path(saved.image.id), saved.config.data)
    writer.file(blob_path(saved.manifest.digest), saved.manifest.data)


def _assembler(layer: Layer, lowers: list[Path], tick: Tick | None) -> Callable[[Writable], None]:
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
