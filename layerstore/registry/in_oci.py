"""Docker's manifests and indexes in OCI's media types.

podman, skopeo and buildah find only those in an OCI layout.  The blobs, the configuration
and so the id of an image stay as they are; the digests of the documents change.

Source: image-spec media-types.md "Compatibility Matrix"; skopeo-copy(1) `--preserve-digests`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)
from layerstore.oci.json_values import JSON, parse_document, text_of
from layerstore.registry.remote import Document

# The fields of a document that name others.
_NAMING = ("config", "layers", "manifests", "subject")
_SAME = {DOCKER_INDEX: OCI_INDEX, DOCKER_MANIFEST: OCI_MANIFEST, DOCKER_CONFIG: OCI_CONFIG}
_LAYERS = {
    DOCKER_LAYER: OCI_LAYER,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": (
        "application/vnd.oci.image.layer.nondistributable.v1.tar"
    ),
}


def oci_type(media_type: str) -> str:
    """Return OCI's name of a media type of docker's; another one stays as it is."""
    for docker, oci in _LAYERS.items():
        if media_type.startswith(docker):
            return oci + media_type[len(docker) :].replace(".", "+", 1)
    return _SAME.get(media_type, media_type)


def in_oci(documents: Sequence[Document]) -> list[Document]:
    """Return the documents in OCI's media types; one that an index names comes before it.

    A document that has none of docker's keeps its bytes.
    """
    made: dict[str, Document] = {}
    for document in documents:
        before = parse_document(document.data, "manifest")
        named = {name: _converted(before[name], made) for name in _NAMING if name in before}
        after = {**before, **named}
        after["mediaType"] = oci_type(document.media_type)
        if after == {**before, "mediaType": document.media_type}:
            made[document.digest] = document
            continue
        data = json.dumps(after, indent=3, ensure_ascii=False).encode()
        made[document.digest] = Document(data, str(after["mediaType"]), sha256_digest(data))
    return [made[document.digest] for document in documents]


def _converted(value: JSON, made: Mapping[str, Document]) -> JSON:
    """Convert a field of a document: a descriptor, or a list of them."""
    if isinstance(value, list):
        return [_converted(one, made) for one in value]
    if not isinstance(value, dict):
        return value
    known = made.get(text_of(value, "digest"))
    if known is not None:
        size = len(known.data)
        return {**value, "mediaType": known.media_type, "digest": known.digest, "size": size}
    return {**value, "mediaType": oci_type(text_of(value, "mediaType"))}
