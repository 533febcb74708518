"""Bars on a terminal, drawn by rich: one for each thing that moves, and one for all of them.

Decided here and only here: how a bar looks.

Threading: rich draws in a thread of its own; one thread at a time calls the methods.
"""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from mount_tools.cli.output.terminal import one_line
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

TOTAL = "Total"


class Drawing:
    """Lines that are redrawn until `close`, and then stay on the screen."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = Progress(
            # No markup: a status may quote names that contain brackets.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(file=stream),
        )
        self._progress.start()
        self._total = self._progress.add_task(TOTAL, total=None, visible=False)
        self._bars: dict[str, TaskID] = {}

    def bar(self, name: str, line: str, done: int, size: int | None) -> None:
        """Draw the bar of `name`, with `line` before it: `done` of `size` bytes."""
        if name not in self._bars:
            self._bars[name] = self._progress.add_task("", total=None)
        self._progress.update(
            self._bars[name], description=one_line(line), completed=done, total=size
        )

    def total(self, done: int, sizes: Collection[int | None]) -> None:
        """Draw the bar for all, if there are several; it has no size before all are known."""
        # `update` takes None for "unchanged".
        task = self._progress.tasks[self._total]
        task.total = None if None in sizes else sum(filter(None, sizes))
        self._progress.update(self._total, completed=done, visible=len(sizes) > 1)

    def print(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(one_line(line), markup=False, highlight=False)

    def close(self) -> None:
        """Stop to redraw."""
        self._progress.stop()
