"""A registry in memory, as `layerstore.registry.remote` describes it, and images for it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.documents import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    Descriptor,
)
from layerstore.registry.errors import (
    BlobUnknown,
    Denied,
    Interrupted,
    ManifestUnknown,
    UploadInvalid,
    WrongContent,
)
from layerstore.registry.remote import Document
from layerstore.registry.retries import Notice
from tests.layerstore.archives import file, folder, whole

REPOSITORY = "registry.test/team/app"


class MemoryBody:
    """A blob that is read; `cut` is where the connection breaks, `step` how much comes at once."""

    def __init__(self, data: bytes, offset: int, cut: int | None, step: int) -> None:
        self._data = data
        self.offset = offset
        self._cut = cut
        self._step = step

    def readinto(self, buffer: memoryview) -> int:
        if self._cut is not None and self.offset >= self._cut:
            raise Interrupted("the connection to registry.test broke", "registry.test")
        end = len(self._data) if self._cut is None else self._cut
        piece = self._data[self.offset : min(end, self.offset + min(self._step, len(buffer)))]
        buffer[: len(piece)] = piece
        self.offset += len(piece)
        return len(piece)


class MemoryUpload:
    """A blob that is being sent; the registry loses the first `lost` of them at their end."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry
        self._data = bytearray()

    def __enter__(self) -> MemoryUpload:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self._registry.uploads -= 1

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes), "it is kept until it is sent"
        self._registry.on_write()
        self._data += data

    def commit(self, digest: Digest | None = None) -> Digest:
        own = sha256_digest(bytes(self._data))
        if self._registry.lost or digest not in (None, own):
            self._registry.lost = max(0, self._registry.lost - 1)
            raise UploadInvalid("the upload was lost", "registry.test")
        self._registry.asked.append(f"UPLOAD {own}")
        return self._registry.blob(bytes(self._data))


class MemoryRegistry:
    """One repository.  `asked` lists the requests; `ranges` says whether it knows ranges.

    `others` are the blobs of other repositories there; `uploads` counts those that are open.
    """

    def __init__(self, name: str = REPOSITORY) -> None:
        self.name = name
        self.host = name.partition("/")[0]
        self.others: dict[str, dict[str, bytes]] = {}
        self.mounts = True
        self.uploads = 0
        self.lost = 0
        self.on_write: Callable[[], None] = lambda: None
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, Document] = {}
        self.asked: list[str] = []
        self.ranges = True
        self.heads = True
        self.cuts: dict[str, int] = {}
        self.step = 1 << 20
        self.on_open: Callable[[Descriptor], None] = lambda _: None

    # -- what a pull asks --

    def head_manifest(self, reference: str) -> Descriptor | None:
        self.asked.append(f"HEAD {reference}")
        if not self.heads:
            return None
        found = self._find(reference)
        return Descriptor(found.media_type, found.digest, len(found.data))

    def get_manifest(self, reference: str) -> Document:
        self.asked.append(f"GET {reference}")
        return self._find(reference)

    @contextmanager
    def open_blob(
        self, descriptor: Descriptor, offset: int = 0, notice: Notice | None = None
    ) -> Iterator[MemoryBody]:
        self.asked.append(f"BLOB {descriptor.digest} {offset}")
        self.on_open(descriptor)
        data = self.blobs.get(descriptor.digest)
        if data is None:
            raise BlobUnknown(f"no such blob: {descriptor.digest}", "registry.test")
        cut = self.cuts.get(descriptor.digest)
        yield MemoryBody(data, offset if self.ranges else 0, cut, self.step)

    def read_blob(self, descriptor: Descriptor) -> bytes:
        with self.open_blob(descriptor) as body:
            data = bytearray(descriptor.size + 1)
            size = 0
            while count := body.readinto(memoryview(data)[size:]):
                size += count
        if size != descriptor.size or sha256_digest(bytes(data[:size])) != descriptor.digest:
            raise WrongContent(f"something else than {descriptor.digest} came", self.host)
        return bytes(data[:size])

    def tags(self) -> list[str]:
        return sorted(name for name in self.manifests if not name.startswith("sha256:"))

    def _find(self, reference: str) -> Document:
        if reference not in self.manifests:
            raise ManifestUnknown(f"manifest unknown: {reference}", "registry.test")
        return self.manifests[reference]

    # -- what a push asks --

    def has_blob(self, digest: Digest) -> bool:
        self.asked.append(f"HAS {digest}")
        return digest in self.blobs

    def mount_blob(self, digest: Digest, source: str) -> MemoryUpload | None:
        self.asked.append(f"MOUNT {digest} {source}")
        if source == "secret":
            raise Denied("no access to secret", "registry.test")
        data = self.others.get(source, {}).get(digest)
        if data is None or not self.mounts:
            return self.upload()
        self.blob(data)
        return None

    def upload(self) -> MemoryUpload:
        self.uploads += 1
        return MemoryUpload(self)

    def put_manifest(self, reference: str, data: bytes, kind: str, /) -> Digest:
        self.asked.append(f"PUT {reference}")
        fields = json.loads(data)
        for entry in fields.get("manifests", ()):
            assert entry["digest"] in self.manifests, "children come first"
        for entry in fields.get("layers", ()):
            assert len(self.blobs[entry["digest"]]) == entry["size"], "children come first"
        return self.manifest(data, kind, reference).digest

    # -- what a test puts in --

    def blob(self, data: bytes) -> Digest:
        digest = sha256_digest(data)
        self.blobs[digest] = data
        return digest

    def manifest(self, data: bytes, media_type: str, *tags: str) -> Document:
        kept = Document(data, media_type, sha256_digest(data))
        for name in (kept.digest, *tags):
            self.manifests[name] = kept
        return kept

    def image(
        self,
        *layers: bytes,
        tags: Sequence[str] = ("latest",),
        pack: Callable[[bytes], bytes] = gzip.compress,
        architecture: str = "amd64",
        **changes: object,
    ) -> Document:
        """Put an image of these plain tars in, each packed by `pack`."""
        config = config_of(*layers, architecture=architecture)
        packed = [pack(layer) for layer in layers]
        kind = DOCKER_LAYER if pack is bytes else f"{DOCKER_LAYER}.gzip"
        fields: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": _entry(DOCKER_CONFIG, self.blob(config), len(config)),
            "layers": [_entry(kind, self.blob(blob), len(blob)) for blob in packed],
            **changes,
        }
        return self.manifest(json.dumps(fields, indent=3).encode(), DOCKER_MANIFEST, *tags)

    def index(self, *entries: tuple[Document, str], tags: Sequence[str] = ("latest",)) -> Document:
        """Put an index in; each entry is a document and its platform, as "linux/arm64/v8"."""
        listed = []
        for kept, platform in entries:
            entry = _entry(kept.media_type, kept.digest, len(kept.data))
            words = platform.split("/") if platform else []
            entry["platform"] = dict(zip(("os", "architecture", "variant"), words, strict=False))
            listed.append(entry)
        fields = {"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": listed}
        return self.manifest(json.dumps(fields).encode(), DOCKER_INDEX, *tags)


def config_of(*layers: bytes, **fields: object) -> bytes:
    """Return the configuration of an image of these plain tars."""
    made: dict[str, object] = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2020-01-02T03:04:05Z",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [sha256_digest(layer) for layer in layers]},
        "history": [{"created_by": f"step {n}"} for n in range(len(layers))],
        **fields,
    }
    return json.dumps(made).encode()


def _entry(kind: str, digest: Digest, size: int) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest, "size": size}


def plain_layer(number: int, size: int = 1000) -> bytes:
    """Return a tar of a directory and a file in it; each number gives another."""
    content = (f"layer {number} " * (size // 8 + 1)).encode()[:size]
    return whole(folder(b"etc"), file(f"etc/{number}".encode(), content))


LAYERS = tuple(plain_layer(number) for number in range(4))
