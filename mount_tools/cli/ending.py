"""Signals that end a command, which then undoes what it has begun.

Most commands do not need this: what they leave in the store is removed by the next command.
But what a command has mounted, and a process that it has started, would stay.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, by a KeyboardInterrupt.

    Only the first signal does: timeout(1) sends one to the command and one more to its process
    group, and the second must not interrupt what the first one undoes.  A signal that is ignored
    already, as by nohup(1), stays ignored.
    """
    ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if not ending:
            ending = True
            raise KeyboardInterrupt

    before = {
        one: signal.signal(one, end)
        for one in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(one) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
