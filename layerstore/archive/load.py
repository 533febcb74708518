"""load: the images of an archive go into the store.

This module alone decides how an image of an archive becomes an image of the store.
No more is read than the announced sizes, the digest of a blob is checked before it is
unpacked, and a layer is published only if it unpacks to the diff_id in the configuration.
When all parts are in the store, one transaction records the images and their
names, so either the whole archive is loaded or nothing.  Before that transaction the
store's write lock is held only while a layer or a blob is recorded.

Source: image-spec image-layout.md; moby daemon/internal/image/tarexport.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from layerstore.archive.docker import MANIFEST_FILE, read_docker
from layerstore.archive.members import Members, Section, open_members
from layerstore.archive.oci import INDEX_FILE, read_oci
from layerstore.archive.packaged import Lineage, Packaged
from layerstore.errors import (
    DigestMismatch,
    InvalidImage,
    InvalidReference,
    LimitExceeded,
    SizeMismatch,
    shown,
)
from layerstore.layer.unpack import unpack
from layerstore.layers import Layer
from layerstore.limits import DEFAULT, Limits
from layerstore.oci.digest import Digest, VerifyingReader, chain_id
from layerstore.oci.documents import Descriptor, ImageConfig
from layerstore.oci.platform import Platform, suits
from layerstore.oci.reference import Reference, parse_reference
from layerstore.progress import Progress, Report, Status, silent, ticker
from layerstore.store import Store
from layerstore.tar.compression import Readable, open_decompressed
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.privilege import is_machine_root

_ENDINGS = re.compile(r"(?:\.(?:tar|oci|tgz|tbz2|txz|gz|zst|xz|bz2))*$")


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
    report: Report = silent,
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
            loader = _Loader(store, members, report, limits)
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


def _parents(ready: Sequence[tuple[ImageConfig, Packaged]]) -> list[tuple[Digest, Digest]]:
    """Return (image, parent) for each image whose parent is in the archive too.

    Raises InvalidImage if the archive names a parent that docker would refuse.
    """
    asked = {packaged.id: packaged.parent for _, packaged in ready if packaged.parent}
    needed = {*asked, *asked.values()}
    origins = {
        packaged.id: Lineage.of(config) for config, packaged in ready if packaged.id in needed
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

    def __init__(self, store: Store, members: Members, report: Report, limits: Limits) -> None:
        self._store = store
        self._members = members
        self._report = report
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
            self._store.layers.archives.add(
                diff_id, descriptor.digest, descriptor.media_type, descriptor.size
            )
        return layer

    def _is_kept(self, blob: Digest, diff_id: Digest) -> bool:
        """Tell whether the store has `blob`, and knows that it unpacks to the layer `diff_id`."""
        return self._store.blobs.need(blob) and any(
            known.digest == blob for known in self._store.layers.archives.of(diff_id)
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
            progress = Progress(diff_id.short, Status.LOADING, total=section.size)
            done = unpack(
                stream,
                staging.path,
                privileged=self._privileged,
                lowers=[layer.diff for layer in below],
                limits=self._limits,
                tick=ticker(self._report, progress, stream),
            )
            if done.diff_id != diff_id:
                raise _mismatch(len(below), diff_id, done.diff_id)
            parent = below[0].chain_id if below else None
            return self._store.layers.publish(staging, parent, diff_id, done.size)


def _mismatch(number: int, expected: Digest, found: Digest) -> DigestMismatch:
    return DigestMismatch(
        f'invalid diffID for layer {number}: expected "{expected}", got "{found}"'
    )
