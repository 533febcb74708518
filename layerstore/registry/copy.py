"""copy: an image from one place to another, without unpacking it and without the store.

This module alone decides what is copied, and in which order.  By default that is the image
for one platform, and with `everything` the whole index.  Documents keep their bytes and so
their digests, unless they are converted; blobs are sent before the documents that name
them.  A blob that the target has is not sent, and one that another repository of the same
registry has is mounted.

Source: distribution-spec; skopeo-copy(1) for the names of places.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from layerstore.archive.docker import MANIFEST_FILE, Listed, blob_path, manifest_file
from layerstore.archive.oci import INDEX_FILE, LAYOUT, LAYOUT_FILE
from layerstore.archive.writer import ArchiveWriter
from layerstore.errors import DigestMismatch, InvalidImage, SizeMismatch, StoreError
from layerstore.oci.digest import Digest
from layerstore.oci.documents import INDEX_TYPES, Descriptor, Manifest, parse_index
from layerstore.oci.platform import Platform
from layerstore.oci.reference import Reference
from layerstore.progress import Progress, Report, Status, silent
from layerstore.registry.choice import choose, here
from layerstore.registry.errors import Cancelled, RegistryError
from layerstore.registry.in_oci import in_oci
from layerstore.registry.jobs import FOREIGN, Stopped, finish, raise_first
from layerstore.registry.origins import Origin, layout_index
from layerstore.registry.remote import BlobUpload, Body, Document, Target
from layerstore.registry.transfer import PLAIN, Transfer
from layerstore.tar.pipeline import Writable, write_all
from unionfs.light_typing import NamedTuple, Protocol

PARALLEL = 5
_CHUNK = 1 << 20  # bytes; after each the progress is reported
_MOST_NESTED = 4


class Copied(NamedTuple):
    """What was copied: the digest and the bytes of its manifest or index."""

    digest: Digest
    size: int


class Goal(Protocol):
    """A place that an image is copied to."""

    def blobs(self, origin: Origin, wanted: Sequence[Descriptor]) -> None:
        """Bring these blobs there."""

    def document(self, document: Document) -> None:
        """Store a manifest or an index, whose children are there."""

    def finish(self, top: Document) -> None:
        """Give the image its name."""


def copy_image(
    origin: Origin,
    goal: Goal,
    *,
    platform: Platform | None = None,
    everything: bool = False,
    convert: bool = False,
) -> Copied:
    """Copy the image of `origin` to `goal`.

    `platform` chooses from an index, by default this machine's; with `everything` the whole
    index is copied.  With `convert` docker's documents get OCI's media types, and so other
    digests; see `layerstore.registry.in_oci`.  Raises RegistryError, InvalidImage, StoreError.
    """
    top = origin.top()
    if everything:
        documents = list(_tree(origin, top, _MOST_NESTED))
    else:
        documents = [Document.of(choose(top, platform or here(), origin.get).manifest)]
    if convert:
        documents = in_oci(documents)
    for document in documents:
        if document.media_type not in INDEX_TYPES:
            manifest = Manifest.parse(document.data, document.media_type)
            wanted = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
            goal.blobs(origin, [blob for blob in wanted.values() if not _is_elsewhere(blob)])
    for document in documents[:-1]:
        goal.document(document)
    goal.finish(documents[-1])
    return Copied(documents[-1].digest, len(documents[-1].data))


def _tree(origin: Origin, document: Document, depth: int) -> Iterator[Document]:
    """Yield a document and all beneath it, the children first."""
    if document.media_type in INDEX_TYPES:
        if not depth:
            raise InvalidImage(f"the image indexes are nested more than {_MOST_NESTED} deep")
        for entry in parse_index(document.data):
            yield from _tree(origin, origin.get(entry), depth - 1)
    yield document


def _is_elsewhere(blob: Descriptor) -> bool:
    return bool(blob.urls) and blob.media_type.startswith(FOREIGN)


class RegistryGoal:
    """The repository `target`, where the image gets the name `reference`, a tag or digest."""

    def __init__(
        self,
        target: Target,
        reference: str,
        transfer: Transfer = PLAIN,
    ) -> None:
        self._target = target
        self._reference = reference
        self._report = transfer.report
        self._parallel = transfer.parallel or PARALLEL
        self._cancel = transfer.cancel
        self._stop = threading.Event()

    def blobs(self, origin: Origin, wanted: Sequence[Descriptor]) -> None:
        with ThreadPoolExecutor(self._parallel, "copy") as threads:
            begun = (threads.submit(self._bring, origin, blob) for blob in wanted)
            jobs = finish(begun, self._give_up)
        raise_first(jobs)

    def _give_up(self) -> None:
        self._stop.set()
        self._cancel()

    def document(self, document: Document) -> None:
        self._target.put_manifest(document.digest, document.data, document.media_type)

    def finish(self, top: Document) -> None:
        if ":" in self._reference and self._reference != top.digest:
            raise StoreError(
                f"what is copied has the digest {top.digest} and cannot be named {self._reference}"
            )
        self._target.put_manifest(self._reference, top.data, top.media_type)

    def _bring(self, origin: Origin, blob: Descriptor) -> None:
        if self._target.has_blob(blob.digest):
            self._tell(blob, Status.LAYER_EXISTS)
            return
        host, _, path = origin.repository.partition("/")
        begun: BlobUpload | None = None
        if path and host == self._target.name.partition("/")[0]:
            try:
                begun = self._target.mount_blob(blob.digest, path)
            except Cancelled:
                raise
            except RegistryError:
                begun = self._target.upload()  # a mount only saves the upload
            if begun is None:
                self._tell(blob, Status.MOUNTED, note=path)
                return
        with begun or self._target.upload() as upload, origin.open(blob) as body:
            for data in self._pieces(body, blob):
                upload.write(data)
            upload.commit(blob.digest)
        self._tell(blob, Status.COPIED, blob.size)

    def _pieces(self, body: Body, blob: Descriptor) -> Iterator[bytes]:
        for done, data in _read(body, blob):
            if self._stop.is_set():
                raise Stopped
            self._tell(blob, Status.COPYING, done)
            yield data

    def _tell(self, blob: Descriptor, status: Status, done: int = 0, note: str = "") -> None:
        self._report(Progress(blob.digest.short, status, done, blob.size, note, self._target.name))


class ArchiveGoal:
    """An OCI layout, as a tar or a directory, where the image gets the name `name`.

    With `docker` it is an archive of docker's too, and the image is named `reference` there.
    `before` is the index.json of a layout that exists, whose images stay.
    """

    def __init__(
        self,
        writer: ArchiveWriter,
        name: str = "",
        *,
        docker: bool = False,
        reference: Reference | None = None,
        before: bytes | None = None,
        report: Report = silent,
    ) -> None:
        self._writer = writer
        self._name = name
        self._docker = docker
        self._reference = reference
        self._before = before
        self._report = report

    def blobs(self, origin: Origin, wanted: Sequence[Descriptor]) -> None:
        for blob in wanted:
            self._writer.blob(blob_path(blob.digest), blob.size, self._copier(origin, blob))
            self._report(self._progress(blob, Status.COPIED, blob.size))

    def _copier(self, origin: Origin, blob: Descriptor) -> Callable[[Writable], None]:
        def write(out: Writable) -> None:
            found = hashlib.sha256()
            with origin.open(blob) as body:
                for done, data in _read(body, blob):
                    found.update(data)
                    write_all(out, memoryview(data))
                    self._report(self._progress(blob, Status.COPYING, done))
            if found.hexdigest() != blob.digest.encoded:
                raise DigestMismatch(
                    f"content announced as {blob.digest} has the digest "
                    f"sha256:{found.hexdigest()}; it was damaged or altered"
                )

        return write

    def _progress(self, blob: Descriptor, status: Status, done: int) -> Progress:
        return Progress(blob.digest.short, status, done, blob.size, parent=self._name)

    def document(self, document: Document) -> None:
        self._writer.file(blob_path(document.digest), document.data)

    def finish(self, top: Document) -> None:
        self.document(top)
        if self._docker:
            if top.media_type in INDEX_TYPES:
                raise StoreError("an archive of docker's holds an image, and no index of several")
            manifest = Manifest.parse(top.data, top.media_type)
            names = [self._reference] if self._reference is not None else []
            layers = [layer.digest for layer in manifest.layers]
            listed = Listed(manifest.config.digest, names, layers, None)
            self._writer.file(MANIFEST_FILE, manifest_file([listed]))
        self._writer.file(LAYOUT_FILE, LAYOUT)
        self._writer.file(INDEX_FILE, layout_index(top, self._name, self._before))
        self._writer.end()


def _read(body: Body, blob: Descriptor) -> Iterator[tuple[int, bytes]]:
    """Yield the pieces of a blob, each with the bytes up to its end; raises SizeMismatch."""
    buffer = memoryview(bytearray(_CHUNK))
    done = 0
    while count := body.readinto(buffer[: min(_CHUNK, blob.size - done + 1)]):
        done += count
        if done > blob.size:
            break
        yield done, bytes(buffer[:count])
    if done != blob.size:
        more = "longer" if done > blob.size else "shorter"
        raise SizeMismatch(f"{blob.digest} is {more} than the {blob.size} bytes announced")
