"""What a long operation tells about how far it is.

Whoever starts one may hand in a callable that takes a `Progress`; how it is
shown is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from layerstore.tar.compression import Decompressed
    from layerstore.tar.pipeline import Tick


class Progress(NamedTuple):
    """How far one layer is: `status` in docker's words, bytes done and, where known, in all."""

    layer: str
    status: str
    done: int = 0
    total: int | None = None


Report = Callable[[Progress], None]


def ticker(progress: Report | None, layer: str, status: str, total: int | None) -> Tick | None:
    """Return what tells `progress` how many bytes of a layer are done."""
    if progress is None:
        return None
    return lambda done: progress(Progress(layer, status, done, total))


def packed_ticker(
    progress: Report | None, layer: str, status: str, stream: Decompressed, total: int | None
) -> Tick | None:
    """As `ticker`, counting the bytes of `stream` as it is packed, of which `total` is known."""
    if progress is None:
        return None
    return lambda _: progress(Progress(layer, status, stream.packed, total))
