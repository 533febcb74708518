"""The progress of a long operation.

The caller of such an operation may pass a callable that takes a `Progress` and shows it.
"""

from __future__ import annotations

from collections.abc import Callable

from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from layerstore.tar.compression import Decompressed
    from layerstore.tar.pipeline import Tick


class Progress(NamedTuple):
    """The progress of one layer: `status` in docker's words, bytes done and, if known, in all."""

    layer: str
    status: str
    done: int = 0
    total: int | None = None


Report = Callable[[Progress], None]


def ticker(progress: Report | None, layer: str, status: str, total: int | None) -> Tick | None:
    """Return a callable that reports to `progress` how many bytes of a layer are done."""
    if progress is None:
        return None
    return lambda done: progress(Progress(layer, status, done, total))


def packed_ticker(
    progress: Report | None, layer: str, status: str, stream: Decompressed, total: int | None
) -> Tick | None:
    """Like `ticker`, but count the packed bytes of `stream`; there are `total` of them."""
    if progress is None:
        return None
    return lambda _: progress(Progress(layer, status, stream.packed, total))
