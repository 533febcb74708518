"""Signals that end a command, which then undoes what it has begun.

Most commands need nothing: the next one removes what they have left in the store.  What they
have mounted, or run, would stay.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, by a KeyboardInterrupt."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {one: signal.signal(one, end) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
