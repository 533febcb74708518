"""Transfers on a terminal: a bar for each layer that moves, and one for all, drawn by rich.

The total counts bytes that go over the network: while a layer is unpacked, it counts with
the size that was transferred.

Threading: rich draws in a thread of its own; `update` is called under the reporter's lock.
"""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from layerstore.registry.events import Event, Status
from mount_tools.cli.output.terminal import one_line

TOTAL = "Total"
_ON_THE_WAY = (Status.DOWNLOADING, Status.PUSHING, Status.COPYING)
_WHOLE = (
    Status.DOWNLOADED,
    Status.EXTRACTING,
    Status.PULLED,
    Status.PUSHED,
    Status.COPIED,
    Status.VERIFYING,
)


class TransferBars:
    """Lines that are redrawn until `close`, and then stay on the screen."""

    def __init__(self, stream: TextIO) -> None:
        self._drawing = Progress(
            # No markup: a status may quote names that contain brackets.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(file=stream),
        )
        self._drawing.start()
        self._total = self._drawing.add_task(TOTAL, total=None, visible=False)
        self._tasks: dict[str, TaskID] = {}
        self._moved: dict[str, int] = {}
        self._sizes: dict[str, int | None] = {}

    def update(self, event: Event) -> None:
        from mount_tools.cli.output.transfers import line_of

        if not event.what or event.status in (Status.PULLING_FROM, Status.DIGEST):
            self._drawing.console.print(one_line(line_of(event)), markup=False, highlight=False)
            return
        if event.what not in self._tasks:
            self._tasks[event.what] = self._drawing.add_task("", total=None)
        whole = event.status in _WHOLE and event.status is not Status.EXTRACTING
        self._drawing.update(
            self._tasks[event.what],
            description=one_line(line_of(event)),
            completed=(event.total or 0) if whole else event.done,
            total=event.total,
        )
        if event.status in _ON_THE_WAY:
            self._moved[event.what] = event.done
            self._sizes[event.what] = event.total
        elif event.status in _WHOLE and event.what in self._sizes:
            self._moved[event.what] = event.total or self._moved[event.what]
            self._sizes[event.what] = self._moved[event.what]
        elif event.status in (Status.PULLING, Status.WAITING):
            self._moved.setdefault(event.what, 0)
            self._sizes[event.what] = event.total
        self._draw_total()

    def _draw_total(self) -> None:
        sizes = list(self._sizes.values())
        # No total before every size is known; `update` takes None for "unchanged".
        known_all = None not in sizes
        self._drawing.tasks[self._total].total = sum(filter(None, sizes)) if known_all else None
        self._drawing.update(
            self._total, completed=sum(self._moved.values()), visible=len(self._sizes) > 1
        )

    def close(self) -> None:
        self._drawing.stop()
