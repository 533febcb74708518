"""The choice of the manifest for a platform from an image index.

This module alone decides the order of preference.  It is docker's: the platform itself,
an older variant of its processor, then another architecture that the processor also runs
(386 on amd64, arm on arm64).  Attestations, whose platform is unknown, are never chosen.

Source: image-spec image-index.md; containerd `platforms/compare.go` (platformVector).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from layerstore.errors import InvalidImage, NotFound, UnknownMediaType, shown
from layerstore.oci.digest import Digest
from layerstore.oci.documents import (
    DOCKER_CONFIG,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_CONFIG,
    Descriptor,
    ImageConfig,
    Manifest,
    parse_index,
)
from layerstore.oci.platform import Platform, suits, this_platform
from layerstore.registry.remote import Document
from unionfs.light_typing import NamedTuple

_MOST_NESTED = 4
_RUNS = 3  # the least that `suits` gives to what the platform runs
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_ALSO = {"amd64": ("386", ""), "arm64": ("arm", "v8")}
# docker wrote the third once.
_CONFIGS = (OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream")


class Chosen(NamedTuple):
    """The manifest that was found, and the indexes on the way to it, the outermost first."""

    manifest: Manifest
    indexes: tuple[Document, ...]


def here() -> Platform:
    """Return the platform of this machine."""
    return Platform("linux", *this_platform())


def runs(found: Platform, wanted: Platform) -> int:
    """Return how well an image for `found` runs on `wanted`, 0 for not at all."""
    score = suits(found, wanted)
    if score >= _RUNS:
        return score
    also = _ALSO.get(wanted.architecture)
    if also is not None and suits(found, Platform(wanted.os, *also)) >= _RUNS:
        return 1
    return 0


def refuse_schema_1(media_type: str) -> None:
    """Raise UnknownMediaType if a manifest is of docker's first schema."""
    if media_type.startswith(_SCHEMA_1):
        raise UnknownMediaType(
            "the image has only a manifest of docker's schema 1, which no docker since 2024 reads: "
            "push it again with a newer docker"
        )


def choose(top: Document, wanted: Platform, get: Callable[[Descriptor], Document]) -> Chosen:
    """Return the manifest for `wanted` from `top`, a manifest or an index.

    `get` fetches an entry of an index.  Raises NotFound, which lists the available
    platforms, and InvalidImage or UnknownMediaType if `top` is not an image.
    """
    indexes: list[Document] = []
    document = top
    while document.media_type in INDEX_TYPES:
        if len(indexes) == _MOST_NESTED:
            raise InvalidImage(
                f"the image index {top.digest} is nested more than {_MOST_NESTED} deep"
            )
        indexes.append(document)
        entry = _entry(parse_index(document.data), wanted)
        document = get(entry)
        if document.digest != entry.digest or len(document.data) != entry.size:
            raise InvalidImage(
                f"the manifest {entry.digest} is not of the {entry.size} bytes that its index says"
            )
    refuse_schema_1(document.media_type)
    manifest = Manifest.parse(document.data, document.media_type)
    kind = manifest.config.media_type
    if kind not in _CONFIGS:
        raise UnknownMediaType(
            f'{top.digest} is not an image that can run: it is of the type "{shown(kind)}", which '
            "other tools read"
        )
    return Chosen(manifest, tuple(indexes))


def _entry(entries: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    best: tuple[int, Descriptor] | None = None
    for entry in entries:
        if entry.media_type not in INDEX_TYPES | MANIFEST_TYPES:
            continue
        named = platform_of(entry)
        # An index may name no platform for an entry that is an index itself.
        score = runs(named, wanted) if named.architecture else 1
        if score and (best is None or score > best[0]):
            best = score, entry
    if best is not None:
        return best[1]
    there = sorted({str(platform_of(entry)) for entry in entries} - {"", "unknown/unknown"})
    listed = ", ".join(shown(text) for text in there[:20]) or "none"
    raise NotFound(
        f"no matching manifest for {wanted} in the manifest list entries; there are: {listed}"
    )


def platform_of(entry: Descriptor) -> Platform:
    """Return the platform in an entry of an index."""
    fields = entry.platform or {}
    return Platform(*(str(fields.get(key) or "") for key in ("os", "architecture", "variant")))


def refuse_other_platform(config: ImageConfig, name: str, wanted: Platform) -> None:
    """Raise NotFound unless the image runs on `wanted`, which the user named."""
    found = Platform(config.os, config.architecture, config.variant)
    if not runs(found, wanted):
        raise NotFound(
            f"image with reference {name} was found but does not match the specified platform: "
            f"wanted {wanted}, actual: {shown(str(found))}"
        )


def parse_config(data: bytes, manifest: Manifest) -> tuple[ImageConfig, tuple[Digest, ...]]:
    """Return the configuration of an image and its diff_ids, one for each layer."""
    config = ImageConfig.parse(data)
    diff_ids = config.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidImage(
            f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, "
            f"got {len(manifest.layers)}"
        )
    return config, diff_ids
