"""Show the progress of a pull, a push or a copy: bars on a terminal, docker's lines in a pipe.

A pipe gets one line for each change of a layer's status, as docker writes them, and no line
for the bytes in between.

Threading: any thread may report.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from layerstore.registry.events import Event, Report, Status, silent
from mount_tools.cli.output.terminal import for_stream, one_line
from unionfs.light_typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing import TextIO


class Display(Protocol):
    """Shows events until it is closed."""

    def update(self, event: Event) -> None: ...

    def close(self) -> None: ...


# An image may have the same layer more than once: it is fetched once, and announced each time.
_ONCE = (Status.VERIFYING, Status.DOWNLOADED)


class Lines:
    """A line for each change of status."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told: dict[tuple[str, str], tuple[Status, str]] = {}
        self._once: set[tuple[str, str, Status]] = set()

    def update(self, event: Event) -> None:
        key, told = (event.parent, event.what), (event.status, event.note)
        is_told = self._told.get(key) == told and event.status is not Status.PREPARING
        if event.status.moves or is_told or (*key, event.status) in self._once:
            return
        if event.status in _ONCE:
            self._once.add((*key, event.status))
        if event.what:
            self._told[key] = told
        print(for_stream(line_of(event), self._stream), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to do."""


def line_of(event: Event) -> str:
    """Return an event as docker writes it."""
    if event.status is Status.DIGEST:
        return f"Digest: {event.note}"
    text = f"{event.status.value} {event.note}" if event.note else event.status.value
    return one_line(f"{event.what}: {text}" if event.what else text)


class _Reporter:
    """Hands the events of all threads to one display."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._display: Display | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._display is None:
                self._display = self._opened()
            self._display.update(event)

    def _opened(self) -> Display:
        if not self._stream.isatty():
            return Lines(self._stream)
        # The import of rich takes a tenth of a second.
        from mount_tools.cli.output.transfer_bars import TransferBars

        return TransferBars(self._stream)

    def close(self) -> None:
        with self._lock:
            if self._display is not None:
                self._display.close()


@contextmanager
def shown(stream: TextIO, *, quiet: bool = False) -> Iterator[Report]:
    """Yield a function that shows the events of the block on `stream`; nothing if `quiet`."""
    if quiet:
        yield silent
        return
    reporter = _Reporter(stream)
    try:
        yield reporter
    finally:
        reporter.close()
