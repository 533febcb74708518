"""import and export: a root filesystem, as a tar or a directory, into and out of the store.

Decided here and only here: the configuration of an imported image, and that the tar of
a root filesystem must have its end mark, since nothing else shows that it is complete.
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.containerfile.changes import apply_changes
from layerstore.containers.container import Container
from layerstore.errors import StoreError
from layerstore.images.images import Image
from layerstore.layer.flatten import PackStream, write_flat_tar
from layerstore.layer.unpack import Unpacked, unpack
from layerstore.limits import DEFAULT, Limits
from layerstore.oci.documents import HistoryEntry, ImageConfig, Object
from layerstore.oci.platform import Platform, this_platform
from layerstore.oci.reference import Reference, parse_tag_target
from layerstore.oci.timestamps import format_timestamp
from layerstore.progress import Progress, Report, Status, silent, ticker
from layerstore.store import Store
from layerstore.tar.compression import Readable, open_decompressed
from layerstore.tar.pipeline import Writable
from unionfs.syscalls.privilege import is_machine_root


def import_image(
    store: Store,
    source: Path | Readable,
    reference: Reference | str | None = None,
    *,
    config: Object | None = None,
    changes: Sequence[str] = (),
    message: str = "Imported from -",
    platform: Platform | None = None,
    report: Report = silent,
    limits: Limits = DEFAULT,
) -> Image:
    """Make an image with one layer from a root filesystem, and return it.

    `source` is a directory, or a tar as a file or a stream, in any known compression.
    `config` is the run configuration of the image, to which `changes`, Dockerfile
    instructions, are applied.  `platform` is by default this machine's.  Raises StoreError,
    InvalidImage for a bad tar.
    """
    if isinstance(reference, str):
        reference = parse_tag_target(reference)
    config = apply_changes(config or {}, changes)
    with (
        _opened(source) as (stream, size),
        store.leases.lease("work", "import"),
        store.layers.stage() as staging,
    ):
        unpacked = open_decompressed(stream, limits)
        done = unpack(
            unpacked,
            staging.path,
            privileged=is_machine_root(),
            limits=limits,
            tick=ticker(report, Progress("", Status.IMPORTING, total=size), unpacked),
            whole=True,
        )
        store.layers.publish(staging, None, done.diff_id, done.size)
        made = _configuration(
            done, config, message, platform or Platform("linux", *this_platform())
        )
        store.blobs.put(made.data)
        with store.database.transaction():
            image = store.images.add(made.data)
            if reference is not None:
                store.images.tag(image, reference)
            return store.images.get(image.id)


@contextmanager
def _opened(source: Path | Readable) -> Iterator[tuple[Readable, int | None]]:
    """Yield the tar of a root filesystem, and its size if that is known."""
    if not isinstance(source, Path):
        yield source, _left_of(source)
        return
    try:
        if source.is_dir():
            with PackStream(lambda out: write_flat_tar([source], out)) as stream:
                yield stream, None
        else:
            with source.open("rb", buffering=0) as file:
                yield file, _left_of(file)
    except OSError as error:
        raise StoreError(f"{source} cannot be imported: {error.strerror or error}") from error


def _left_of(stream: Readable) -> int | None:
    """Return how many bytes are left to read of a stream, None if it is no regular file."""
    if not isinstance(stream, io.IOBase):
        return None
    with suppress(OSError):  # one in memory has no descriptor
        fd = stream.fileno()
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode):
            return max(0, found.st_size - os.lseek(fd, 0, os.SEEK_CUR)) or None
    return None


def _configuration(done: Unpacked, config: Object, message: str, platform: Platform) -> ImageConfig:
    fields: Object = {
        "architecture": platform.architecture,
        "os": platform.os,
        "config": config,
    }
    if platform.variant:
        fields["variant"] = platform.variant
    created = format_timestamp(time.time_ns())
    entry = HistoryEntry(created=created, comment=message)
    return ImageConfig.of(fields).derive(entry, diff_id=done.diff_id)


def export_container(
    store: Store, container: Container, out: Writable, *, report: Report = silent
) -> None:
    """Write the merged tree of the container to `out` as a tar; the caller closes `out`."""
    layers = store.containers.trees(container)
    with store.leases.reading("export"):
        tick = ticker(report, Progress(container.short, Status.EXPORTING))
        write_flat_tar(layers, out, tick=tick, live=True, sparse=True)
