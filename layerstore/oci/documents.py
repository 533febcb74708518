"""Image configurations and manifests: parse and write these documents.

The digest of a document is that of its bytes, so a document from elsewhere is stored
byte for byte and never written again from its fields.  A derived configuration keeps the
fields that this store does not know.

Decided here and only here: which documents are accepted.  These are the media types of
docker and OCI.  The content of a document, not its name, decides its
type, and a document that could be of two types is refused.

Source: image-spec config.md, manifest.md, image-index.md, descriptor.md;
docker-image-spec v1.2, manifest v2 schema 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from layerstore.errors import InvalidImage, UnknownMediaType, shown
from layerstore.light_json import dumps
from layerstore.oci.digest import Digest, chain_id, sha256_digest
from layerstore.oci.json_values import JSON as JSON
from layerstore.oci.json_values import Object as Object
from layerstore.oci.json_values import object_of, parse_document, text_of
from layerstore.oci.run_config import RunConfig
from layerstore.oci.timestamps import format_timestamp, parse_timestamp
from unionfs.light_typing import NamedTuple

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEX_TYPES = frozenset((OCI_INDEX, DOCKER_INDEX))
MANIFEST_TYPES = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))


class HistoryEntry(NamedTuple):
    """The step that made one layer, or changed the configuration only."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    @property
    def created_ns(self) -> int:
        return _time(self.created)

    def as_json(self) -> Object:
        """Return the entry as a configuration has it, without fields that are not set."""
        fields: Object = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {name: value for name, value in fields.items() if value}


class ImageConfig:
    """A configuration: `data` is its bytes, `fields` the parsed JSON."""

    def __init__(self, data: bytes, fields: Object) -> None:
        self.data = data
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageConfig) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.data)

    @classmethod
    def parse(cls, data: bytes) -> ImageConfig:
        """Read a configuration; raises InvalidImage, which names the fault."""
        config = cls(data, parse_document(data, "image configuration"))
        # Raise errors now, and not at the first use of a field.
        for name in ("architecture", "os", "variant", "author", "created", "comment"):
            text_of(config.fields, name)
        _ = config.config, config.diff_ids, config.history
        return config

    @classmethod
    def of(cls, fields: Object) -> ImageConfig:
        """Write a configuration of `fields`; bytes that are not UTF-8 become U+FFFD, as in Go."""
        text = dumps(fields, ascii_only=False, compact=True)
        return cls.parse(text.encode("utf-8", "surrogateescape").decode(errors="replace").encode())

    @property
    def id(self) -> Digest:
        """The image's id."""
        return sha256_digest(self.data)

    @property
    def architecture(self) -> str:
        return text_of(self.fields, "architecture")

    @property
    def os(self) -> str:
        return text_of(self.fields, "os")

    @property
    def variant(self) -> str:
        return text_of(self.fields, "variant")

    @property
    def author(self) -> str:
        return text_of(self.fields, "author")

    @property
    def created(self) -> str:
        """The time at which the image was made, as in the configuration; "" if it has none."""
        return text_of(self.fields, "created")

    @property
    def created_ns(self) -> int:
        return _time(self.created)

    @property
    def comment(self) -> str:
        """The comment of the maker: docker's own field, or that of the last history entry."""
        return text_of(self.fields, "comment") or (self.history[-1].comment if self.history else "")

    @property
    def config(self) -> Object:
        """The configuration of a container of this image: Cmd, Env, User…"""
        return object_of(self.fields, "config")

    @property
    def run(self) -> RunConfig:
        """`config` with typed fields."""
        return RunConfig(self.config)

    @property
    def labels(self) -> dict[str, str]:
        return self.run.labels

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The layers, the base first."""
        rootfs = object_of(self.fields, "rootfs")
        kind = rootfs.get("type", "layers")
        if kind != "layers":
            raise InvalidImage(
                f'an image configuration has a rootfs of the type "{shown(str(kind))}"'
            )
        listed = rootfs.get("diff_ids")
        listed = [] if listed is None else listed
        if not isinstance(listed, list):
            raise InvalidImage('an image configuration\'s "diff_ids" is not a list')
        return tuple(Digest.parse(str(entry)) for entry in listed)

    @property
    def chain(self) -> tuple[Digest, ...]:
        """The chain_ids of the layers, the base first."""
        chains: list[Digest] = []
        for diff_id in self.diff_ids:
            chains.append(chain_id(chains[-1] if chains else None, diff_id))
        return tuple(chains)

    @property
    def history(self) -> tuple[HistoryEntry, ...]:
        """The steps that made the image, the oldest first."""
        listed = self.fields.get("history")
        listed = [] if listed is None else listed
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise InvalidImage('an image configuration\'s "history" is not a list of objects')
        return tuple(
            HistoryEntry(
                created=text_of(entry, "created"),
                created_by=text_of(entry, "created_by"),
                author=text_of(entry, "author"),
                comment=text_of(entry, "comment"),
                empty_layer=entry.get("empty_layer") is True,
            )
            for entry in listed
            if isinstance(entry, dict)
        )

    def derive(
        self,
        entry: HistoryEntry,
        *,
        diff_id: Digest | None,
        config: Object | None = None,
    ) -> ImageConfig:
        """Return the configuration of this image with one more history entry.

        `diff_id` is the layer that the entry adds, None if it adds none; `config`
        replaces the run configuration.  Time and author are those of the entry.
        """
        fields: Object = dict(self.fields)
        # docker's fields about the container from which the base was made.
        for name in ("container", "container_config", "id", "parent", "parent_id", "comment"):
            fields.pop(name, None)
        fields["created"] = entry.created or format_timestamp(0)
        fields.pop("author", None)
        if entry.author:
            fields["author"] = entry.author
        if config is not None:
            fields["config"] = config
        diff_ids: list[JSON] = [*self.diff_ids, *([diff_id] if diff_id else [])]
        rootfs = dict(object_of(self.fields, "rootfs"))
        rootfs.update(type="layers", diff_ids=diff_ids)
        fields["rootfs"] = rootfs
        past: list[JSON] = [old.as_json() for old in self.history]
        fields["history"] = [*past, entry.as_json()]
        return ImageConfig.of(fields)


class Descriptor(NamedTuple):
    """The type, digest and size of content that a document names."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = MappingProxyType({})
    platform: Object | None = None
    urls: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: JSON) -> Descriptor:
        """Read a descriptor; raises InvalidImage."""
        if not isinstance(entry, dict):
            raise InvalidImage("a descriptor is not an object")
        size = entry.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise InvalidImage(f"a descriptor has the size {shown(repr(size))}")
        annotations = object_of(entry, "annotations")
        urls = entry.get("urls") or []
        return cls(
            text_of(entry, "mediaType"),
            Digest.parse(text_of(entry, "digest")),
            size,
            {name: str(value) for name, value in annotations.items()},
            object_of(entry, "platform") or None,
            tuple(str(url) for url in urls) if isinstance(urls, list) else (),
        )

    def as_json(self) -> Object:
        """Return the descriptor as a document holds it."""
        fields: Object = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform:
            fields["platform"] = self.platform
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        if self.urls:
            fields["urls"] = list(self.urls)
        return fields


class Manifest(NamedTuple):
    """An image's manifest: its configuration and its layers, the base first."""

    data: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @classmethod
    def parse(cls, data: bytes, media_type: str = "") -> Manifest:
        """Read a manifest; raises InvalidImage or UnknownMediaType."""
        fields = parse_document(data, "manifest")
        _one_kind(fields, "manifest")
        layers = fields.get("layers")
        if not isinstance(layers, list):
            raise InvalidImage('a manifest has no list of "layers"')
        kind = text_of(fields, "mediaType") or media_type or OCI_MANIFEST
        if kind not in MANIFEST_TYPES:
            raise UnknownMediaType(f'a manifest of the unknown type "{shown(kind)}"')
        config = Descriptor.of(fields.get("config"))
        return cls(data, kind, config, tuple(Descriptor.of(layer) for layer in layers))

    @classmethod
    def of(
        cls, config: Descriptor, layers: tuple[Descriptor, ...], media_type: str = OCI_MANIFEST
    ) -> Manifest:
        """Write a manifest."""
        fields: Object = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.as_json(),
            "layers": [layer.as_json() for layer in layers],
        }
        data = dumps(fields, ascii_only=False, compact=True).encode()
        return cls(data, media_type, config, layers)

    @property
    def digest(self) -> Digest:
        return sha256_digest(self.data)


def parse_index(data: bytes) -> tuple[Descriptor, ...]:
    """Return the manifests that an image index, or docker's manifest list, names."""
    fields = parse_document(data, "image index")
    _one_kind(fields, "index")
    manifests = fields.get("manifests")
    if not isinstance(manifests, list):
        raise InvalidImage('an image index has no list of "manifests"')
    return tuple(Descriptor.of(entry) for entry in manifests)


def _one_kind(fields: Object, kind: str) -> None:
    """Refuse a document that is a manifest and an index at once (CVE-2021-41190)."""
    if "manifests" in fields and ("config" in fields or "layers" in fields):
        raise InvalidImage("a document claims to be both a manifest and an index")
    if fields.get("schemaVersion", 2) != 2:
        version = shown(repr(fields.get("schemaVersion")))
        raise UnknownMediaType(
            f"the {kind} of the image has the schema version {version}, which is not read: the "
            "image has to be pushed again by a present-day tool, in schema version 2"
        )


def _time(text: str) -> int:
    if not text:
        return 0
    try:
        return parse_timestamp(text)
    except InvalidImage:
        return 0  # other stores read an image whose time is written wrongly, too
