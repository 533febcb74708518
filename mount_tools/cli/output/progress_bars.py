"""Progress on a terminal: a bar for each thing that moves, and one for all.

The total counts bytes that are moved: while a layer that was pulled is unpacked, it counts
with the size that was transferred.

Threading: `update` is called under the reporter's lock.
"""

from __future__ import annotations

from layerstore.progress import Progress, Status
from mount_tools.cli.output.drawing import Drawing
from mount_tools.cli.output.progress_lines import line_of
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_OF_THE_IMAGE = (Status.PULLING_FROM, Status.DIGEST)
_TO_COME = (Status.PULLING, Status.WAITING)
_WHOLE = (Status.DOWNLOADED, Status.PULLED, Status.PUSHED, Status.COPIED, Status.VERIFYING)


class Bars:
    """The bars of one operation."""

    def __init__(self, stream: TextIO) -> None:
        self._drawing = Drawing(stream)
        self._moved: dict[str, int] = {}
        self._sizes: dict[str, int | None] = {}

    def update(self, progress: Progress) -> None:
        what, status = progress.what, progress.status
        if status in _OF_THE_IMAGE:
            self._drawing.print(line_of(progress))
            return
        done = (progress.total or 0) if status in _WHOLE else progress.done
        self._drawing.bar(what, line_of(progress), done, progress.total)
        if status in _WHOLE or status is Status.EXTRACTING:
            if what in self._sizes:
                self._moved[what] = self._sizes[what] = progress.total or self._moved[what]
        elif status.moves:
            self._moved[what] = progress.done
            self._sizes[what] = progress.total
        elif status in _TO_COME:
            self._moved.setdefault(what, 0)
            self._sizes[what] = progress.total
        self._drawing.total(sum(self._moved.values()), self._sizes.values())

    def close(self) -> None:
        self._drawing.close()
