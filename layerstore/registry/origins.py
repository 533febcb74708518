"""The sources of a copy: a repository, an OCI layout or an archive of `docker save`.

An origin checks the digests of documents; the reader checks the digests of blobs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from layerstore.archive.docker import blob_path, read_docker
from layerstore.archive.members import Members, Section, read_document
from layerstore.archive.oci import INDEX_FILE, NAMES, REF_NAME, read_blob
from layerstore.archive.packaged import Packaged
from layerstore.errors import InvalidImage, NotFound, shown
from layerstore.oci.digest import Digest, VerifyingReader, sha256_digest
from layerstore.oci.documents import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_INDEX,
    Descriptor,
    Manifest,
    parse_index,
)
from layerstore.oci.json_values import JSON, Object, list_of, object_of, parse_document
from layerstore.oci.reference import parse_reference
from layerstore.registry.remote import Body, Document, Source
from layerstore.tar.compression import GZIP, ZSTD, sniff
from unionfs.light_typing import Protocol

_SUFFIXES = {GZIP: ".gzip", ZSTD: ".zstd", None: ""}


class Origin(Protocol):
    """An image that is copied from somewhere; `repository` is its full name in a registry."""

    @property
    def repository(self) -> str: ...

    def top(self) -> Document:
        """Return the manifest or the index of the image."""

    def get(self, entry: Descriptor) -> Document:
        """Return an entry of an index."""

    def open(self, blob: Descriptor) -> AbstractContextManager[Body]:
        """Open a blob."""


class RepositoryOrigin:
    """The image `reference`, a tag or a digest, of a repository."""

    def __init__(self, source: Source, reference: str) -> None:
        self._source = source
        self._reference = reference

    @property
    def repository(self) -> str:
        return self._source.name

    def top(self) -> Document:
        return self._source.get_manifest(self._reference)

    def get(self, entry: Descriptor) -> Document:
        return self._source.get_manifest(entry.digest)

    def open(self, blob: Descriptor) -> AbstractContextManager[Body]:
        return self._source.open_blob(blob)


class _SectionBody:
    """A member of an archive as a body."""

    offset = 0

    def __init__(self, section: Section) -> None:
        self._section = section

    def readinto(self, buffer: memoryview, /) -> int:
        return self._section.readinto(buffer)


class LayoutOrigin:
    """The image `name` of an OCI layout; its only image if `name` is ""."""

    repository = ""

    def __init__(self, members: Members, name: str = "") -> None:
        self._members = members
        self._name = name

    def top(self) -> Document:
        data = read_document(self._members, INDEX_FILE)
        if data is None:
            raise InvalidImage(f"this is no OCI layout: it has no {INDEX_FILE}")
        entries = parse_index(data)
        found = [entry for entry in entries if not self._name or self._name in _names(entry)]
        if len({entry.digest for entry in found}) != 1:
            names = sorted({name for entry in entries for name in _names(entry)})
            listed = ", ".join(shown(name) for name in names[:20]) or "none with a name"
            wanted = f'no image "{shown(self._name)}"' if self._name else f"{len(entries)} images"
            raise NotFound(f"the OCI layout has {wanted}; there are: {listed}")
        return self.get(found[0])

    def get(self, entry: Descriptor) -> Document:
        data = read_blob(self._members, entry)
        if data is None:
            raise InvalidImage(f"the OCI layout lacks the manifest {entry.digest}")
        return Document(data, entry.media_type, entry.digest)

    @contextmanager
    def open(self, blob: Descriptor) -> Iterator[Body]:
        section = self._members.open(blob_path(blob.digest))
        if section is None:
            raise InvalidImage(f"the OCI layout lacks the blob {blob.digest}")
        with section:
            yield _SectionBody(section)


class DockerOrigin:
    """The image `name` of an archive of `docker save`; its only image if `name` is "".

    Such an archive has no OCI manifest, so one is made for its layers as they are.
    """

    repository = ""

    def __init__(self, members: Members, name: str = "") -> None:
        self._members = members
        self._packaged = self._find(name)
        self._files: dict[Digest, str] = {}

    def _find(self, name: str) -> Packaged:
        listed = read_docker(self._members)
        if listed is None:
            raise InvalidImage("this is no archive of docker's: it has no manifest.json")
        reference = parse_reference(name).with_default_tag() if name else None
        found = [one for one in listed if reference is None or reference in one.names]
        if len(found) != 1:
            names = ", ".join(str(own) for one in listed for own in one.names) or "none by name"
            wanted = f'no image "{shown(name)}"' if name else f"{len(listed)} images"
            raise NotFound(f"the archive has {wanted}; there are: {names}")
        return found[0]

    def top(self) -> Document:
        layers = tuple(self._layer(name) for name in self._packaged.layers)
        config = self._packaged.config
        about = Descriptor(DOCKER_CONFIG, sha256_digest(config), len(config))
        return Document.of(Manifest.of(about, layers, DOCKER_MANIFEST))

    def _section(self, name: str) -> Section:
        section = self._members.open(name)
        if section is None:
            raise InvalidImage(f"the archive lacks {shown(name)}, a layer of the image")
        return section

    def _layer(self, name: str) -> Descriptor:
        with self._section(name) as section:
            head = section.read(6) or b""
            kind = sniff(head)
            if kind not in _SUFFIXES:
                raise InvalidImage(f"{shown(name)} in the archive is packed by {kind}")
        with self._section(name) as section:
            digest = VerifyingReader(section).finish()  # type: ignore[arg-type]
            self._files[digest] = name
            return Descriptor(DOCKER_LAYER + _SUFFIXES[kind], digest, section.size)

    def get(self, entry: Descriptor) -> Document:
        raise InvalidImage(f"an archive of docker's has no index, and so no {entry.digest}")

    @contextmanager
    def open(self, blob: Descriptor) -> Iterator[Body]:
        if blob.digest == self._packaged.id:
            yield _BytesBody(self._packaged.config)
            return
        section = self._members.open(self._files[blob.digest])
        if section is None:
            raise InvalidImage(f"the archive lacks the layer {blob.digest}")
        with section:
            yield _SectionBody(section)


class _BytesBody:
    """Bytes as a body."""

    offset = 0

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def readinto(self, buffer: memoryview, /) -> int:
        piece = self._rest[: len(buffer)]
        buffer[: len(piece)] = piece
        self._rest = self._rest[len(piece) :]
        return len(piece)


def _names(entry: Descriptor) -> set[str]:
    found = {entry.annotations.get(key, "") for key in NAMES}
    return found - {""}


def layout_index(top: Document, name: str, before: bytes | None = None) -> bytes:
    """Return the index.json of a layout with the image `top`, named `name` unless that is "".

    `before` is the index.json that the layout has: its images stay, and one that had the
    name loses it, as skopeo does it.  Raises InvalidImage.
    """
    annotations = {REF_NAME: name} if name else {}
    entry = Descriptor(top.media_type, top.digest, len(top.data), annotations)
    fields: Object = {"schemaVersion": 2, "mediaType": OCI_INDEX}
    kept: list[JSON] = []
    if before is not None:
        fields = parse_document(before, INDEX_FILE)
        kept = [_without_name(one, name) for one in list_of(fields, "manifests")]
        kept = [one for one in kept if _is_another(one, top)]
    fields["manifests"] = [*kept, entry.as_json()]
    return json.dumps(fields, separators=(",", ":")).encode()


def _without_name(entry: JSON, name: str) -> JSON:
    if not isinstance(entry, dict) or name not in _names(Descriptor.of(entry)):
        return entry
    annotations = object_of(entry, "annotations")
    left = {key: text for key, text in annotations.items() if key not in NAMES or text != name}
    return {**entry, "annotations": left}


def _is_another(entry: JSON, top: Document) -> bool:
    """Tell whether an entry stays beside that of `top`: it has a name, or is of another image."""
    found = Descriptor.of(entry)
    return found.digest != top.digest or bool(_names(found))
