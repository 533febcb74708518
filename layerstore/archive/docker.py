"""docker's archives of images: read and write their manifest.json.

This module alone decides how docker's format is read.  Only manifest.json counts,
in the format of docker up to 24 (`<id>.json`, `<v1 id>/layer.tar`) and from 25 on
(`blobs/sha256/…`); `repositories` and the old json files next to the layers are
ignored.

Source: docker-image-spec v1.2; moby daemon/internal/image/tarexport.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from layerstore.archive.directory import read_directory
from layerstore.archive.members import Members, read_document
from layerstore.archive.packaged import Packaged
from layerstore.errors import DigestMismatch, InvalidImage, InvalidReference, shown
from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.json_values import DOCUMENT_LIMIT, JSON, Object, parse_json
from layerstore.oci.platform import Platform
from layerstore.oci.reference import Reference, familiar, parse_reference
from unionfs.light_typing import NamedTuple

MANIFEST_FILE = "manifest.json"
_BLOBS = "blobs/sha256/"


def read_docker(members: Members, platform: Platform | None = None) -> list[Packaged] | None:
    """Return the images that manifest.json names, None if there is no such file.

    If it is a manifest itself, this is the layout of `layerstore.archive.directory`.
    """
    data = read_document(members, MANIFEST_FILE)
    if data is None:
        return None
    listed = parse_json(data, f"{MANIFEST_FILE} in the archive")
    if isinstance(listed, dict) and "schemaVersion" in listed:
        return read_directory(members, data, listed, platform)
    if not isinstance(listed, list):
        raise InvalidImage(f"{MANIFEST_FILE} in the archive is not a list of images")
    return [_image(members, entry) for entry in listed]


def _image(members: Members, entry: JSON) -> Packaged:
    if not isinstance(entry, dict):
        raise InvalidImage(f"an image in {MANIFEST_FILE} is not an object")
    path = entry.get("Config")
    if not isinstance(path, str):
        raise InvalidImage(f'an image in {MANIFEST_FILE} has no "Config"')
    config = read_document(members, path)
    if config is None:
        raise InvalidImage(f"the archive lacks {shown(path)}, the configuration of an image")
    if path.startswith(_BLOBS) and sha256_digest(config) != Digest.of_hex(path[len(_BLOBS) :]):
        raise DigestMismatch(f"{path} in the archive has the digest {sha256_digest(config)}")
    layers = _texts(entry, "Layers")
    names = tuple(_name(text) for text in _texts(entry, "RepoTags"))
    parent = entry.get("Parent")
    return Packaged(config, layers, names, parent=parent if isinstance(parent, str) else "")


def _texts(entry: dict[str, JSON], name: str) -> tuple[str, ...]:
    found = entry.get(name) or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise InvalidImage(f'"{name}" of an image in {MANIFEST_FILE} is not a list of texts')
    return tuple(str(text) for text in found)


def _name(text: str) -> Reference:
    reference = parse_reference(text)
    if reference.digest is not None:
        raise InvalidReference(f'"{shown(text)}" in {MANIFEST_FILE} names a digest, and not a tag')
    return reference.with_default_tag()


class Listed(NamedTuple):
    """An entry of manifest.json; `layers` are the digests of its blobs."""

    id: Digest
    names: Sequence[Reference]
    layers: Sequence[Digest]
    parent: Digest | None


def manifest_file(images: Sequence[Listed]) -> bytes:
    """Return manifest.json for `images`."""
    listed: list[JSON] = []
    for image in images:
        entry: Object = {
            "Config": blob_path(image.id),
            "RepoTags": [familiar(name) for name in image.names] or None,
            "Layers": [blob_path(layer) for layer in image.layers],
        }
        if image.parent is not None:
            entry["Parent"] = image.parent
        listed.append(entry)
    data = json.dumps(listed, separators=(",", ":")).encode()
    assert len(data) < DOCUMENT_LIMIT
    return data


def blob_path(digest: Digest) -> str:
    """Return the path of the blob `digest` in an archive."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"
