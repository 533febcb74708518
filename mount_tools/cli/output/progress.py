"""Show how far a long operation is: bars on a terminal, and docker's lines in a pipe.

This module alone decides which operation shows what, and where:

    `announced`   pull, push and copy: at once, in a pipe too
    `reported`    what works on the store: on stderr, after a second, and never in a pipe

Threading: any thread may report.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from layerstore.progress import Progress, Report, silent
from unionfs.light_typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import TextIO

PATIENCE = 1.0


class Display(Protocol):
    """Shows progress until it is closed."""

    def update(self, progress: Progress) -> None: ...

    def close(self) -> None: ...


class Reporter:
    """Hands the progress of all threads to one display, once the operation takes long enough."""

    def __init__(self, stream: TextIO, patience: float) -> None:
        self._stream = stream
        self._due = time.monotonic() + patience
        self._lock = threading.Lock()
        self._early: dict[str, Progress] = {}
        self._display: Display | None = None

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            if self._display is not None:
                self._display.update(progress)
                return
            self._early[progress.what] = progress
            if time.monotonic() >= self._due:
                self._display = self._opened()
                for known in self._early.values():
                    self._display.update(known)

    def _opened(self) -> Display:
        if not self._stream.isatty():
            from mount_tools.cli.output.progress_lines import Lines

            return Lines(self._stream)
        # The import of rich takes a tenth of a second.
        from mount_tools.cli.output.progress_bars import Bars

        return Bars(self._stream)

    def close(self) -> None:
        with self._lock:
            if self._display is not None:
                self._display.close()


@contextmanager
def announced(stream: TextIO, *, quiet: bool = False, patience: float = 0) -> Iterator[Report]:
    """Yield a function that shows the progress of the block on `stream`; nothing if `quiet`."""
    if quiet:
        yield silent
        return
    reporter = Reporter(stream, patience)
    try:
        yield reporter
    finally:
        reporter.close()


@contextmanager
def reported(*, quiet: bool = False, patience: float = PATIENCE) -> Iterator[Report]:
    """Like `announced` on stderr, but only on a terminal and once `patience` is over."""
    with announced(sys.stderr, quiet=quiet or not sys.stderr.isatty(), patience=patience) as report:
        yield report
