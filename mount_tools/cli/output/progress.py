"""Show on a terminal how far a long operation is: a bar for each layer and one for all.

An operation of less than a second shows nothing, nor does one whose stderr is no terminal.

Threading: any thread may report.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from layerstore.progress import Progress, Report
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from mount_tools.cli.output.progress_bars import Bars

PATIENCE = 1.0


class Reporter:
    """Keeps the last state of each layer, and shows it once the operation takes long enough."""

    def __init__(self, stream: TextIO, patience: float = PATIENCE) -> None:
        self._stream = stream
        self._due = time.monotonic() + patience
        self._lock = threading.Lock()
        self._layers: dict[str, Progress] = {}
        self._bars: Bars | None = None

    def __call__(self, event: Progress) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.update(event)
                return
            self._layers[event.layer] = event
            if time.monotonic() >= self._due:
                self._bars = self._opened()
                for known in self._layers.values():
                    self._bars.update(known)

    def _opened(self) -> Bars:
        # The import of rich takes a tenth of a second: do it only for a long operation.
        from mount_tools.cli.output.progress_bars import Bars

        return Bars(self._stream)

    def close(self) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.close()


@contextmanager
def reported(*, quiet: bool = False, patience: float = PATIENCE) -> Iterator[Report | None]:
    """Yield a function that shows the progress of the block; None if `quiet` or in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    reporter = Reporter(sys.stderr, patience)
    try:
        yield reporter
    finally:
        reporter.close()
