"""Progress on a terminal: a bar for each layer and one for all, drawn by rich.

Threading: rich draws in a thread of its own; `update` is called under the reporter's lock.
"""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Drawing

from layerstore.progress import Progress
from mount_tools.cli.output.terminal import one_line

TOTAL = "Total"


class Bars:
    """Lines that are redrawn until `close`, and then stay on the screen."""

    def __init__(self, stream: TextIO) -> None:
        self._drawing = Drawing(
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
        self._known: dict[str, Progress] = {}

    def update(self, event: Progress) -> None:
        if event.layer not in self._tasks:
            self._tasks[event.layer] = self._drawing.add_task("", total=None)
        self._known[event.layer] = event
        self._drawing.update(
            self._tasks[event.layer],
            description=one_line(f"{event.layer}: {event.status}" if event.layer else event.status),
            completed=event.done,
            total=event.total,
        )
        totals = [known.total for known in self._known.values()]
        # No total before every size is known; `update` takes None for "unchanged".
        known_all = None not in totals
        self._drawing.tasks[self._total].total = sum(filter(None, totals)) if known_all else None
        self._drawing.update(
            self._total,
            completed=sum(known.done for known in self._known.values()),
            visible=len(self._known) > 1,
        )

    def close(self) -> None:
        self._drawing.stop()
