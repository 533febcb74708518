"""The pull of the layers of one image: fetched and unpacked, several at a time.

This module alone decides how the work of a pull is spread over threads.  Downloads run in
the order of the layers, the base first, and never wait for the unpacking.  Layers are
unpacked in parallel too.  A layer waits for the one beneath it only at its end: it takes
the attributes of directories that its tar has no member for from there, and it is
published after it.

If two processes want the same layer, one does the work: see `layerstore.db.partial`.

Threading: `bring` is called once; its threads end before it returns.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path

from layerstore.errors import (
    DigestMismatch,
    InvalidImage,
    NotFound,
    SizeMismatch,
    UnknownMediaType,
    shown,
)
from layerstore.layer.unpack import unpack
from layerstore.layers import Layer
from layerstore.oci.digest import Digest, chain_id
from layerstore.oci.documents import DOCKER_LAYER, OCI_LAYER, Descriptor
from layerstore.progress import Progress, Status, ticker
from layerstore.registry.errors import BadAnswer
from layerstore.registry.jobs import FOREIGN, Stopped, finish, raise_first
from layerstore.registry.remote import Source
from layerstore.registry.spool import Fetch, Spool
from layerstore.registry.transfer import Transfer
from layerstore.store import Store
from layerstore.tar.compression import Decompressed
from unionfs.syscalls.privilege import is_machine_root

PARALLEL = 3
_LAYERS = (OCI_LAYER, DOCKER_LAYER, *FOREIGN)


class _Work:
    """One layer to be brought in; `layer` is done when it is published."""

    def __init__(
        self, number: int, descriptor: Descriptor, diff_id: Digest, below: _Work | None
    ) -> None:
        self.number = number
        self.descriptor = descriptor
        self.diff_id = diff_id
        self.below = below
        self.chain: Digest = chain_id(below.chain if below else None, diff_id)
        self.spool = Spool()
        self.layer: Future[Layer] = Future()

    @property
    def packed(self) -> bool:
        """Whether the blob differs from the plain tar; only then is it kept."""
        return self.descriptor.digest != self.diff_id


class LayersIn:
    """Brings the layers of one image in; `wanted` are their descriptors and diff_ids."""

    def __init__(
        self,
        store: Store,
        source: Source,
        parent: str,
        wanted: Sequence[tuple[Descriptor, Digest]],
        transfer: Transfer,
    ) -> None:
        self._store = store
        self._source = source
        self._parent = parent
        self._report = transfer.report
        self._parallel = transfer.parallel or PARALLEL
        self._limits = transfer.limits
        self._cancel = transfer.cancel
        self._privileged = is_machine_root()
        self._stop = threading.Event()
        self._works: list[_Work] = []
        for number, (descriptor, diff_id) in enumerate(wanted):
            below = self._works[-1] if self._works else None
            self._works.append(_Work(number, descriptor, diff_id, below))

    def bring(self) -> None:
        """Bring in every layer that the store lacks; raises the first error of any of them."""
        missing = [work for work in self._works if not self._is_here(work)]
        for work in missing[self._parallel :]:
            self._tell(work, Status.WAITING)
        if not missing:
            return
        with self._store.reserve.growing():
            self._bring(missing)

    def _bring(self, missing: Sequence[_Work]) -> None:
        with (
            ThreadPoolExecutor(self._parallel, "pull") as downloads,
            ThreadPoolExecutor(self._parallel, "unpack") as unpackers,
        ):
            fetch = (downloads.submit(self._in_thread, self._download, work) for work in missing)
            unpack = (unpackers.submit(self._in_thread, self._unpack, work) for work in missing)
            jobs = finish(chain(fetch, unpack), self._give_up)
        for work in self._works:
            work.spool.close()
        raise_first(jobs)

    def drop_partial(self) -> None:
        """Remove the downloads of the image."""
        for work in self._works:
            self._store.partial.remove(work.descriptor.digest)

    def _is_here(self, work: _Work) -> bool:
        kind = work.descriptor.media_type
        if not kind.startswith(_LAYERS):
            raise UnknownMediaType(f'a layer of the image is of the unknown type "{shown(kind)}"')
        layer = self._store.layers.need(work.chain)
        if layer is None:
            self._tell(work, Status.PULLING)
            return False
        work.layer.set_result(layer)
        self._tell(work, Status.ALREADY_EXISTS)
        return True

    def _give_up(self) -> None:
        self._stop.set()
        self._cancel()
        for work in self._works:
            work.spool.fail(Stopped())
            with suppress(InvalidStateError):  # of a layer that is done
                work.layer.set_exception(Stopped())

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _in_thread(self, job: Callable[[_Work], None], work: _Work) -> None:
        try:
            job(work)
        except BaseException as error:
            work.spool.fail(error)
            raise
        finally:
            self._store.database.let_go()

    # -- fetching --

    def _download(self, work: _Work) -> None:
        digest = work.descriptor.digest
        if self._store.blobs.need(digest):
            self._take_blob(work)
            return
        with self._store.partial.claim(digest, self._check) as partial:
            # Another process, or another layer of this image, may have fetched it meanwhile.
            if work.layer.done() or self._store.blobs.need(digest):
                self._take_blob(work)
                return
            tick = ticker(self._report, self._progress(work, Status.DOWNLOADING))
            fetch = Fetch(partial, work.descriptor, work.spool, tick, self._check)
            try:
                fetch.run(
                    lambda offset: self._source.open_blob(
                        work.descriptor, offset, lambda wait, _: self._tell_wait(work, wait)
                    )
                )
            except NotFound as error:
                if not work.descriptor.media_type.startswith(FOREIGN):
                    raise
                raise NotFound(
                    f"the layer {digest} is foreign: the registry does not hold it, and the "
                    "addresses that its manifest names are not asked"
                ) from error
            except BadAnswer:
                raise  # it says which host sent it
            except (DigestMismatch, SizeMismatch) as error:
                raise type(error)(
                    f"{self._source.name} holds a damaged layer: {error}; pull again, and if that "
                    "says the same, the image has to be pushed again"
                ) from error
            self._tell(work, Status.VERIFYING)
            work.spool.end()
            self._tell(work, Status.DOWNLOADED)

    def _take_blob(self, work: _Work) -> None:
        """Unpack the layer from the blob, which is in the store."""
        if not work.layer.done():
            with self._store.blobs.open(work.descriptor.digest) as blob:
                work.spool.begin(blob.fileno())
            work.spool.grow(self._store.blobs.size(work.descriptor.digest))
        work.spool.end()
        self._tell(work, Status.DOWNLOADED)

    # -- unpacking --

    def _unpack(self, work: _Work) -> None:
        with self._store.partial.claim_layer(work.chain, self._check):
            layer = self._store.layers.need(work.chain)
            if layer is None:
                layer = self._make(work)
        with suppress(InvalidStateError):  # the pull may have failed in the meantime
            work.layer.set_result(layer)
        work.spool.end()
        self._tell(work, Status.PULLED)

    def _make(self, work: _Work) -> Layer:
        with self._store.layers.stage() as staging, work.spool:
            stream = Decompressed(work.spool, self._limits)
            progress = self._progress(work, Status.EXTRACTING)
            try:
                done = unpack(
                    stream,
                    staging.path,
                    privileged=self._privileged,
                    lowers=lambda: self._lowers(work),
                    limits=self._limits,
                    tick=ticker(self._report, progress, stream),
                )
            except InvalidImage:
                work.spool.whole()  # an error of the blob itself explains more: it is raised first
                raise
            work.spool.whole()
            if done.diff_id != work.diff_id:
                raise DigestMismatch(
                    f"invalid diffID for layer {work.number}: expected "
                    f'"{work.diff_id}", got "{done.diff_id}"; the image {self._parent} has to be '
                    "pushed again"
                )
            below = work.below.layer.result() if work.below is not None else None
            parent = below.chain_id if below is not None else None
            layer = self._store.layers.publish(staging, parent, work.diff_id, done.size)
            if work.packed:
                self._keep(work)
            return layer

    def _lowers(self, work: _Work) -> list[Path]:
        if work.below is None:
            return []
        below = work.below.layer.result()
        return [layer.diff for layer in self._store.layers.chain(below.chain_id)]

    def _keep(self, work: _Work) -> None:
        """Keep the blob with the layer, so that a push can send it; `publish` has synced it."""
        found = work.descriptor
        self._store.blobs.adopt(work.spool.fileno(), found.digest, found.size)
        self._store.layers.archives.add(work.diff_id, found.digest, found.media_type, found.size)

    # -- telling --

    def _tell(self, work: _Work, status: Status) -> None:
        self._report(self._progress(work, status))

    def _tell_wait(self, work: _Work, seconds: float) -> None:
        note = f"{math.ceil(seconds)} seconds"
        self._report(self._progress(work, Status.RETRYING)._replace(note=note))

    def _progress(self, work: _Work, status: Status) -> Progress:
        digest, total = work.descriptor.digest, work.descriptor.size
        return Progress(digest.short, status, total=total, parent=self._parent)
