"""How a pull, a push or a copy is run."""

from __future__ import annotations

from collections.abc import Callable

from layerstore.limits import DEFAULT, Limits
from layerstore.progress import Report, silent
from unionfs.light_typing import NamedTuple


class Transfer(NamedTuple):
    """How images are transferred: who hears of it, how much at a time, how it is given up.

    `parallel` is how many layers or blobs move at a time; by default 3 of a pull, and 5 of a
    push or a copy.  `cancel` is called when the transfer fails, to end the running requests;
    `Client.cancel` is one.  `limits` are those of a pulled image.
    """

    report: Report = silent
    parallel: int | None = None
    cancel: Callable[[], object] = lambda: None
    limits: Limits = DEFAULT


PLAIN = Transfer()
