"""Show on stderr how far a long operation is: bars on a terminal, lines in a pipe.

An operation of less than a second shows nothing.  A terminal gets one line for each layer
and one for all of them; a pipe gets `<layer>: <status>` when the status of a layer changes.

Threading: any thread may report.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from layerstore.progress import Progress, Report
from mount_tools.cli.output.terminal import for_stream
from unionfs.light_typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import TextIO

PATIENCE = 1.0


class Display(Protocol):
    """Shows progress, once an operation takes long enough."""

    def update(self, event: Progress) -> None: ...

    def close(self) -> None: ...


class Lines:
    """A line for each change of a layer's status."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._status: dict[str, str] = {}

    def update(self, event: Progress) -> None:
        if self._status.get(event.layer) != event.status:
            self._status[event.layer] = event.status
            name = f"{event.layer}: " if event.layer else ""
            line = for_stream(f"{name}{event.status}", self._stream)
            print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to do."""


class Reporter:
    """Keeps the last state of each layer, and shows it once the operation takes long enough."""

    def __init__(self, stream: TextIO, patience: float = PATIENCE) -> None:
        self._stream = stream
        self._due = time.monotonic() + patience
        self._lock = threading.Lock()
        self._layers: dict[str, Progress] = {}
        self._display: Display | None = None

    def __call__(self, event: Progress) -> None:
        with self._lock:
            if self._display is not None:
                self._display.update(event)
                return
            self._layers[event.layer] = event
            if time.monotonic() >= self._due:
                self._display = self._opened()
                for known in self._layers.values():
                    self._display.update(known)

    def _opened(self) -> Display:
        if not self._stream.isatty():
            return Lines(self._stream)
        # The import of rich takes a tenth of a second: do it only for a long operation.
        from mount_tools.cli.output.progress_bars import Bars

        return Bars(self._stream)

    def close(self) -> None:
        with self._lock:
            if self._display is not None:
                self._display.close()


@contextmanager
def reported(*, quiet: bool = False, patience: float = PATIENCE) -> Iterator[Report | None]:
    """Yield a function that shows the progress of the block; None if `quiet`."""
    if quiet:
        yield None
        return
    reporter = Reporter(sys.stderr, patience)
    try:
        yield reporter
    finally:
        reporter.close()
