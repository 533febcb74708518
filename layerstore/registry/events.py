"""The progress events of a pull, a push or a copy.

The caller passes a callable that takes an `Event` and shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from unionfs.light_typing import NamedTuple


class Status(Enum):
    """What has become of a layer, or of a whole image, in docker's words."""

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

    @property
    def moves(self) -> bool:
        """Whether events with this status repeat, with the bytes done so far."""
        return self in _MOVING


_MOVING = (Status.DOWNLOADING, Status.EXTRACTING, Status.PUSHING, Status.COPYING)


class Event(NamedTuple):
    """How far one thing is.

    `what` is the first twelve digits of a layer's digest, or a tag; `parent` is the image or
    repository that it belongs to.  `done` and `total` are bytes; `total` is None if it is
    not known.  `note` follows the status: a repository, a digest, or a time to wait.
    """

    what: str
    parent: str
    status: Status
    done: int = 0
    total: int | None = None
    note: str = ""


Report = Callable[[Event], None]


_STEP = 1 << 20  # bytes between two events


def ticker(tell: Callable[[int], object], end: int | None = None) -> Callable[[int], None]:
    """Return a function of the bytes done, which calls `tell` now and then, and at `end`."""
    last = 0

    def tick(done: int) -> None:
        nonlocal last
        if done - last >= _STEP or done == end:
            last = done
            tell(done)

    return tick


def silent(_: Event) -> None:
    """Report to nobody."""
