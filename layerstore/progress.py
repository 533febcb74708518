"""The progress of a long operation: of one in the store, of a pull, a push or a copy.

The caller of such an operation may pass a callable that takes a `Progress` and shows it.

Threading: an operation reports from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from layerstore.tar.compression import Decompressed
    from layerstore.tar.pipeline import Tick


class Status(Enum):
    """What becomes of a layer, or of a whole image; in docker's words where it has some."""

    PULLING_FROM = "Pulling from"
    DIGEST = "Digest"
    ALREADY_EXISTS = "Already exists"
    PULLING = "Pulling fs layer"
    WAITING = "Waiting"
    DOWNLOADING = "Downloading"
    RETRYING = "Retrying in"
    VERIFYING = "Verifying Checksum"
    DOWNLOADED = "Download complete"
    EXTRACTING = "Extracting"
    PULLED = "Pull complete"
    PREPARING = "Preparing"
    PUSHING = "Pushing"
    PUSHED = "Pushed"
    LAYER_EXISTS = "Layer already exists"
    MOUNTED = "Mounted from"
    COPYING = "Copying blob"
    COPIED = "Copied"
    LOADING = "Loading layer"
    SAVING = "Saving layer"
    CHECKING = "Checking layer"
    VERIFYING_LAYER = "Verifying"
    COMMITTING = "Committing"
    IMPORTING = "Importing"
    EXPORTING = "Exporting"

    @property
    def moves(self) -> bool:
        """Whether this status is reported again and again, with the bytes done so far."""
        return self in _MOVING


_MOVING = (
    Status.DOWNLOADING,
    Status.EXTRACTING,
    Status.PUSHING,
    Status.COPYING,
    Status.LOADING,
    Status.SAVING,
    Status.CHECKING,
    Status.COMMITTING,
    Status.IMPORTING,
    Status.EXPORTING,
)


class Progress(NamedTuple):
    """How far one thing is.

    `what` is the first twelve digits of a digest or of a container's id, or a tag; it is
    empty if there is only one thing.  `done` and `total` are bytes; `total` is None if it is
    not known.  `note` follows the status: a repository, a digest, or a time to wait.
    `parent` is the image or repository, of several, that it belongs to.
    """

    what: str
    status: Status
    done: int = 0
    total: int | None = None
    note: str = ""
    parent: str = ""


Report = Callable[[Progress], object]


def silent(_: Progress) -> None:
    """Report to nobody."""


_STEP = 1 << 20  # bytes between two reports


def ticker(report: Report, progress: Progress, packed: Decompressed | None = None) -> Tick:
    """Return a function of the bytes done, which reports `progress` with them.

    It does so after each MiB and at the total.  An estimated total grows with the bytes.  If
    there is a `packed`, the bytes that were read of it before they were unpacked are counted.
    """
    last = 0

    def tick(done: int) -> None:
        nonlocal last
        if packed is not None:
            done = packed.packed
        if done - last >= _STEP or done == progress.total:
            last = done
            total = None if progress.total is None else max(done, progress.total)
            report(progress._replace(done=done, total=total))

    return tick
