"""Progress on a terminal: a bar for each layer and one for all.

Threading: `update` is called under the reporter's lock.
"""

from __future__ import annotations

from layerstore.progress import Progress
from mount_tools.cli.output.drawing import Drawing
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


class Bars:
    """The bars of one operation."""

    def __init__(self, stream: TextIO) -> None:
        self._drawing = Drawing(stream)
        self._known: dict[str, Progress] = {}

    def update(self, event: Progress) -> None:
        self._known[event.layer] = event
        line = f"{event.layer}: {event.status}" if event.layer else event.status
        self._drawing.bar(event.layer, line, event.done, event.total)
        known = self._known.values()
        self._drawing.total(sum(one.done for one in known), [one.total for one in known])

    def close(self) -> None:
        self._drawing.close()
