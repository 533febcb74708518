"""One image as a directory: skopeo's `dir:`, which podman calls `docker-dir`.

This module alone decides how that layout is read.  manifest.json is the
image's manifest, or an image index whose manifests are `<hex>.manifest.json`;
blobs are files named by the hexadecimal digits of their digest.  The layout
has no place for the image's name.

Source: containers/image directory/directory_transport.go, directory_dest.go.
"""

from __future__ import annotations

from layerstore.archive.members import Members, read_document
from layerstore.archive.packaged import Packaged
from layerstore.errors import DigestMismatch, InvalidImage, SizeMismatch
from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import Descriptor, Manifest, parse_index
from layerstore.oci.json_values import Object
from layerstore.oci.platform import Platform, choose_platform


def read_directory(
    members: Members, data: bytes, fields: Object, platform: Platform | None = None
) -> list[Packaged]:
    """Return the image whose manifest or index is `data`; `fields` is `data` parsed."""
    if "manifests" in fields:
        entries = [
            entry
            for entry in parse_index(data)
            # Without `--all` only one of them is copied.
            if members.open(_manifest_name(entry)) is not None
        ]
        chosen = choose_platform(entries, platform)
        if chosen is None:
            wanted = f" for {platform}" if platform is not None else ""
            raise InvalidImage(f"the directory has no image{wanted} of those in its index")
        data = _document(members, _manifest_name(chosen), chosen, "manifest")
    manifest = Manifest.parse(data)
    config = _document(members, manifest.config.digest.encoded, manifest.config, "configuration")
    layers = tuple(layer.digest.encoded for layer in manifest.layers)
    return [Packaged(config, layers, (), manifest.layers, manifest)]


def _manifest_name(entry: Descriptor) -> str:
    return f"{entry.digest.encoded}.manifest.json"


def _document(members: Members, name: str, descriptor: Descriptor, what: str) -> bytes:
    data = read_document(members, name)
    if data is None:
        raise InvalidImage(f"the directory lacks {name}, the {what} of the image")
    if len(data) != descriptor.size:
        raise SizeMismatch(
            f"{name} in the directory has {len(data)} bytes; {descriptor.size} were announced"
        )
    if sha256_digest(data) != descriptor.digest:
        raise DigestMismatch(f"{name} in the directory has the digest {sha256_digest(data)}")
    return data
