"""The push of the layers of one image: mounted, sent as they were pulled, or compressed.

This module alone decides how a layer gets into a repository, and in which compression.  A
blob that the repository already has is not sent.  One that another repository of the same
registry has is mounted.  A blob that the store keeps is sent as it is.  Only the other
layers are compressed.  A layer is assembled, compressed, hashed and sent in one stream, on
several threads, and never written to disk.  The same layer always gives the same bytes, so
a registry stores it once, whichever machine pushes it.

Threading: `send` is called once; its threads end before it returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from layerstore.db.remote_table import PackedRow
from layerstore.errors import DigestMismatch, StoreError, shown
from layerstore.layers import Layer
from layerstore.oci.digest import Digest, VerifyingReader, sha256_digest
from layerstore.oci.documents import DOCKER_LAYER, OCI_LAYER, Descriptor
from layerstore.progress import Progress, Status, ticker
from layerstore.registry.errors import Cancelled, RegistryError, UploadInvalid
from layerstore.registry.jobs import Stopped, finish, raise_first
from layerstore.registry.remote import BlobUpload, Target
from layerstore.registry.transfer import Transfer
from layerstore.store import Store
from layerstore.tar.compression import GZIP, LEVELS, ZSTD, open_compressor
from layerstore.tar.pipeline import Tick
from unionfs.light_typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from typing import BinaryIO

PARALLEL = 5
_CHUNK = 1 << 20
_SMALL = 8 << 20  # bytes of a blob that is held until its digest is known
_TRIES = 3  # uploads of one blob, if the registry loses them


class Compression(NamedTuple):
    """How layers are packed: the kind and its level."""

    kind: str
    level: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.level}"

    @property
    def media_type(self) -> str:
        """The media type of a layer with this compression; docker has no type for zstd."""
        return f"{DOCKER_LAYER}.gzip" if self.kind == GZIP else f"{OCI_LAYER}+zstd"

    def made(self, media_type: str) -> bool:
        """Tell whether a blob of that media type has the same kind of compression."""
        return media_type.endswith("gzip" if self.kind == GZIP else "zstd")


def parse_compression(text: str) -> Compression:
    """Return the compression that `text` names: "gzip", "zstd", or one with ":LEVEL".

    Raises StoreError.
    """
    kind, colon, level = text.partition(":")
    if kind not in LEVELS:
        raise StoreError(f'unknown compression "{shown(text)}": it is {GZIP} or {ZSTD}')
    lowest, default, highest = LEVELS[kind]
    if not colon:
        return Compression(kind, default)
    if not level.isascii() or not level.isdecimal() or not lowest <= int(level[:3]) <= highest:
        raise StoreError(f'"{shown(level)}" is no level of {kind}: it takes {lowest} to {highest}')
    return Compression(kind, int(level))


class _Work:
    """One layer to be sent; `blob` is what it is known to be in the registry, if it is known."""

    def __init__(self, layer: Layer, lowers: list[Path], blob: Descriptor | None) -> None:
        self.layer = layer
        self.lowers = lowers
        self.blob = blob
        self.name = layer.diff_id.short

    @property
    def key(self) -> tuple[Digest, Digest | None]:
        """What is the same for layers that are sent once for all."""
        return self.layer.diff_id, self.blob.digest if self.blob else None


class LayersOut:
    """Sends layers to the repository `target`."""

    def __init__(
        self, store: Store, target: Target, compression: Compression, transfer: Transfer
    ) -> None:
        self._store = store
        self._target = target
        self._neighbours: Sequence[str] = ()
        self._compression = compression
        self._report = transfer.report
        self._parallel = transfer.parallel or PARALLEL
        self._cancel = transfer.cancel
        self._stop = threading.Event()

    def send(
        self,
        chain: Sequence[Layer],
        blobs: Sequence[Descriptor | None],
        neighbours: Sequence[str],
    ) -> list[Descriptor]:
        """Bring every layer into the repository; return their descriptors, the topmost first.

        `chain` are the layers, the topmost first, and `blobs` their descriptors where they
        are already known, else None.  `neighbours` are repositories of the same host that
        may hold the blobs.  Raises RegistryError, and DigestMismatch if a layer of the store
        is damaged.
        """
        self._neighbours = neighbours
        all_works = [
            _Work(layer, [lower.diff for lower in chain[number:]], blob)
            for number, (layer, blob) in enumerate(zip(chain, blobs, strict=True), 1)
        ]
        for work in all_works:
            self._tell(work, Status.PREPARING)
        # A layer may be there twice.
        distinct = {work.key: work for work in reversed(all_works)}
        works = [work for work in all_works if distinct[work.key] is work]
        for work in works[self._parallel :]:
            self._tell(work, Status.WAITING)
        with ThreadPoolExecutor(self._parallel, "push") as threads:
            begun = (threads.submit(self._in_thread, work) for work in works)
            jobs = finish(begun, self._give_up)
        raise_first(jobs)
        done = {work.key: job.result() for work, job in zip(works, jobs, strict=True)}
        return [done[work.key] for work in all_works]

    def _give_up(self) -> None:
        self._stop.set()
        self._cancel()

    def _in_thread(self, work: _Work) -> Descriptor:
        try:
            return self._send(work)
        finally:
            self._store.database.let_go()

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _send(self, work: _Work) -> Descriptor:
        blob = work.blob
        if blob is None:
            return self._again(lambda: self._send_packed(work))
        if self._target.has_blob(blob.digest):
            self._tell(work, Status.LAYER_EXISTS)
            return blob
        begun: list[BlobUpload] = []
        if self._is_mounted(work, blob, begun):
            return blob
        if not self._store.blobs.need(blob.digest):
            for upload in begun:
                with upload:
                    pass  # leaving the block cancels it: the digest of the blob is not known yet
            return self._again(lambda: self._send_packed(work))
        return self._again(lambda: self._send_kept(work, blob, begun))

    def _again(self, send: Callable[[], Descriptor]) -> Descriptor:
        """Send a blob; start again if the registry loses the upload."""
        for _ in range(_TRIES - 1):
            with suppress(UploadInvalid):
                return send()
        return send()

    def _is_mounted(self, work: _Work, blob: Descriptor, begun: list[BlobUpload]) -> bool:
        """Take the blob over from another repository there; tell whether that worked.

        The registry may begin an upload instead, which is then in `begun`.
        """
        host, _, own = self._target.name.partition("/")
        for place in dict.fromkeys((*self._store.remote.places(blob.digest), *self._neighbours)):
            domain, _, path = place.partition("/")
            if domain != host or path == own:
                continue
            try:
                upload = self._target.mount_blob(blob.digest, path)
            except Cancelled:
                raise
            except RegistryError:
                continue  # the account may not read there; a mount only saves an upload
            if upload is None:
                self._tell(work, Status.MOUNTED, note=path)
                return True
            self._store.remote.forget_place(blob.digest, place)
            begun.append(upload)
            return False
        return False

    def _send_kept(self, work: _Work, blob: Descriptor, begun: list[BlobUpload]) -> Descriptor:
        tick = self._ticker(work, blob.size)
        done = 0
        with (
            self._store.blobs.open(blob.digest) as file,
            begun.pop() if begun else self._target.upload() as upload,
        ):
            while data := file.read(_CHUNK):
                self._check()
                upload.write(data)
                done += len(data)
                tick(done)
            try:
                upload.commit(blob.digest)
            except UploadInvalid:
                if self._is_damaged(blob):
                    raise DigestMismatch(
                        f"the blob {blob.digest} of the store is damaged; `pyunion check` shows "
                        "what depends on it"
                    ) from None
                raise
        self._tell(work, Status.PUSHED, blob.size, blob.size)
        return blob

    def _is_damaged(self, blob: Descriptor) -> bool:
        with self._store.blobs.open(blob.digest) as file:
            try:
                VerifyingReader(file, blob.digest).finish()
            except DigestMismatch:
                return True
        return False

    def _send_packed(self, work: _Work) -> Descriptor:
        """Pack the layer and send it in one stream."""
        # This imports the whole union, which a push that sends nothing does not need.
        from layerstore.layer.tar_split import assemble

        layer = work.layer
        plain = work.blob is not None and work.blob.digest == layer.diff_id
        with _Outlet(self._target, self._check) as outlet:
            tick = self._ticker(work, layer.size)
            if plain:
                found = assemble(layer.path, outlet, lowers=work.lowers, tick=tick)
            else:
                kind, level = self._compression
                packer = open_compressor(cast("BinaryIO", outlet), kind, level)
                found = assemble(layer.path, _Packing(packer), lowers=work.lowers, tick=tick)
                packer.close()
            if found.diff_id != layer.diff_id:
                raise DigestMismatch(
                    f"the layer {layer.diff_id.short} has changed on disk since it was published: "
                    f"its digest is now {found.diff_id}; `pyunion check` tells what changed"
                )
            digest, sent = outlet.commit()
        if plain and work.blob is not None:
            blob = work.blob
        else:
            blob = Descriptor(self._compression.media_type, digest, outlet.size)
            self._store.remote.add_packed(
                PackedRow(layer.diff_id, digest, blob.media_type, blob.size, str(self._compression))
            )
        self._tell(work, Status.PUSHED if sent else Status.LAYER_EXISTS, blob.size, blob.size)
        return blob

    # -- telling --

    def _tell(
        self, work: _Work, status: Status, done: int = 0, total: int | None = None, note: str = ""
    ) -> None:
        self._report(Progress(work.name, status, done, total, note, self._target.name))

    def _ticker(self, work: _Work, total: int) -> Tick:
        progress = Progress(work.name, Status.PUSHING, total=total, parent=self._target.name)
        return ticker(self._report, progress)


class _Packing:
    """A compressor, as a stream that is written."""

    def __init__(self, packer: BinaryIO) -> None:
        self._packer = packer

    def write(self, data: memoryview) -> int:
        self._packer.write(data)
        return len(data)


class _Outlet:
    """Sends compressed bytes to an upload, which begins once there are many of them.

    A small blob is held in memory until its digest is known, and is not sent if the
    repository already has it.
    """

    def __init__(self, target: Target, check: Callable[[], None]) -> None:
        self._target = target
        self._check = check
        self._held: list[bytes] = []
        self._stack = ExitStack()
        self._upload: BlobUpload | None = None
        self.size = 0

    def __enter__(self) -> _Outlet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, data: bytes | memoryview) -> int:
        self._check()
        self.size += len(data)
        if self._upload is not None:
            self._upload.write(bytes(data))
        else:
            self._held.append(bytes(data))
            if self.size > _SMALL:
                self._begin()
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def _begin(self) -> BlobUpload:
        self._upload = upload = self._stack.enter_context(self._target.upload())
        for piece in self._held:
            upload.write(piece)
        self._held.clear()
        return upload

    def commit(self) -> tuple[Digest, bool]:
        """Finish the blob; return its digest, and whether it had to be sent."""
        if self._upload is None:
            digest = sha256_digest(b"".join(self._held))
            if self._target.has_blob(digest):
                return digest, False
        upload = self._upload or self._begin()
        return upload.commit(), True
