"""OCI image layouts: read and write their index.json.

This module alone decides which images of a layout are loaded, and their names.  An image
index in it is searched for the platform of this machine; attestations and unknown kinds of
content are skipped, as the specification requires.  The name is containerd's annotation if
there is one, else OCI's; a name that is only a tag gets the repository of the caller.

Source: image-spec image-layout.md, image-index.md, annotations.md; containerd
`images/archive`, docker ≥ 25.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from layerstore.archive.docker import blob_path
from layerstore.archive.members import Members, read_document
from layerstore.archive.packaged import Packaged
from layerstore.errors import DigestMismatch, InvalidImage, InvalidReference, SizeMismatch, shown
from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
    Manifest,
    parse_index,
)
from layerstore.oci.json_values import parse_document, text_of
from layerstore.oci.platform import Platform, choose_platform
from layerstore.oci.reference import Reference, parse_reference

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
NAMES = (REF_NAME, CONTAINERD_NAME)

_MOST_NESTED = 4


def read_oci(
    members: Members, platform: Platform | None = None, repository: str = ""
) -> list[Packaged] | None:
    """Return the images of a layout, None if the archive is not one.

    `platform` selects from image indexes, by default this machine's.  An image whose name is
    only a tag gets the repository `repository`, or no name if that is "".
    """
    layout = read_document(members, LAYOUT_FILE)
    data = read_document(members, INDEX_FILE)
    if layout is None or data is None:
        return None
    checked_layout(layout)
    found: dict[Digest, tuple[Manifest, dict[Reference, None]]] = {}
    for descriptor in parse_index(data):
        for manifest in _manifests(members, descriptor, platform, _MOST_NESTED):
            _, names = found.setdefault(manifest.digest, (manifest, {}))
            name = _name(descriptor, repository)
            if name is not None:
                names[name] = None
    return [_image(members, manifest, tuple(names)) for manifest, names in found.values()]


def checked_layout(data: bytes) -> None:
    """Raise InvalidImage unless `data` is the oci-layout of a version that is known."""
    version = text_of(parse_document(data, LAYOUT_FILE), "imageLayoutVersion")
    if version.split(".")[0] != "1":
        raise InvalidImage(
            f'the archive is an OCI layout of the unknown version "{shown(version)}"'
        )


def _manifests(
    members: Members, descriptor: Descriptor, platform: Platform | None, depth: int
) -> Iterator[Manifest]:
    """Yield the manifests of `descriptor`, a manifest or an index, for `platform`."""
    kind = descriptor.media_type
    if kind not in INDEX_TYPES and kind not in MANIFEST_TYPES:
        return
    data = read_blob(members, descriptor)
    if data is None:
        raise InvalidImage(f"the archive lacks the manifest {descriptor.digest}")
    if kind in MANIFEST_TYPES:
        yield Manifest.parse(data, kind)
        return
    if not depth:
        raise InvalidImage("the image indexes in the archive are nested too deep")
    chosen = choose_platform(
        [
            entry
            for entry in parse_index(data)
            # A layout may have only some of the manifests that an index names.
            if members.open(blob_path(entry.digest)) is not None
        ],
        platform,
    )
    if chosen is not None:
        yield from _manifests(members, chosen, platform, depth - 1)


def _name(descriptor: Descriptor, repository: str) -> Reference | None:
    annotations = descriptor.annotations
    text = annotations.get(CONTAINERD_NAME) or annotations.get(REF_NAME, "")
    if "/" not in text and ":" not in text:
        if not text or not repository:
            return None
        text = f"{repository}:{text}"
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return None  # an annotation may contain characters that a name may not
    return None if reference.digest is not None else reference.with_default_tag()


def _image(members: Members, manifest: Manifest, names: tuple[Reference, ...]) -> Packaged:
    config = read_blob(members, manifest.config)
    if config is None:
        raise InvalidImage(f"the archive lacks {manifest.config.digest}, an image's configuration")
    return Packaged(
        config,
        tuple(blob_path(layer.digest) for layer in manifest.layers),
        names,
        manifest.layers,
        manifest,
    )


def read_blob(members: Members, descriptor: Descriptor) -> bytes | None:
    """Return a document, after a check of its size and digest; None if it is missing."""
    data = read_document(members, blob_path(descriptor.digest))
    if data is None:
        return None
    if len(data) != descriptor.size:
        raise SizeMismatch(
            f"{descriptor.digest} in the archive has {len(data)} bytes; "
            f"{descriptor.size} were announced"
        )
    if sha256_digest(data) != descriptor.digest:
        raise DigestMismatch(
            f"content announced as {descriptor.digest} has the digest {sha256_digest(data)}"
        )
    return data


def index_file(manifests: Sequence[tuple[Manifest, Sequence[Reference]]]) -> bytes:
    """Return index.json for manifests and their names."""
    entries = []
    for manifest, names in manifests:
        plain = Descriptor(manifest.media_type, manifest.digest, len(manifest.data))
        entries += [
            Descriptor(
                plain.media_type,
                plain.digest,
                plain.size,
                {CONTAINERD_NAME: str(name), REF_NAME: str(name)},
            )
            for name in names
        ] or [plain]
    fields = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [entry.as_json() for entry in entries],
    }
    return json.dumps(fields, separators=(",", ":")).encode()
