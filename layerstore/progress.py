"""What a long operation tells about how far it is.

Whoever starts one may hand in a callable that takes a `Progress`; how it is
shown is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """How far one layer is: `status` in docker's words, bytes done and, where known, in all."""

    layer: str
    status: str
    done: int = 0
    total: int | None = None


Report = Callable[[Progress], None]
