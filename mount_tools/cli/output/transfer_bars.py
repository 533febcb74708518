"""Transfers on a terminal: a bar for each layer that moves, and one for all.

The total counts bytes that go over the network: while a layer is unpacked, it counts with
the size that was transferred.

Threading: `update` is called under the reporter's lock.
"""

from __future__ import annotations

from layerstore.registry.events import Event, Status
from mount_tools.cli.output.drawing import Drawing
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

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
    """The bars of one transfer."""

    def __init__(self, stream: TextIO) -> None:
        self._drawing = Drawing(stream)
        self._moved: dict[str, int] = {}
        self._sizes: dict[str, int | None] = {}

    def update(self, event: Event) -> None:
        from mount_tools.cli.output.transfers import line_of

        if not event.what or event.status in (Status.PULLING_FROM, Status.DIGEST):
            self._drawing.print(line_of(event))
            return
        whole = event.status in _WHOLE and event.status is not Status.EXTRACTING
        done = (event.total or 0) if whole else event.done
        self._drawing.bar(event.what, line_of(event), done, event.total)
        if event.status in _ON_THE_WAY:
            self._moved[event.what] = event.done
            self._sizes[event.what] = event.total
        elif event.status in _WHOLE and event.what in self._sizes:
            self._moved[event.what] = event.total or self._moved[event.what]
            self._sizes[event.what] = self._moved[event.what]
        elif event.status in (Status.PULLING, Status.WAITING):
            self._moved.setdefault(event.what, 0)
            self._sizes[event.what] = event.total
        self._drawing.total(sum(self._moved.values()), self._sizes.values())

    def close(self) -> None:
        self._drawing.close()
