"""Progress in a pipe: a line for each change of a status, as docker writes them.

Threading: `update` is called under the reporter's lock.
"""

from __future__ import annotations

from layerstore.progress import Progress, Status
from mount_tools.cli.output.terminal import for_stream, one_line
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

# An image may have the same layer more than once: it is fetched once, and announced each time.
_ONCE = (Status.VERIFYING, Status.DOWNLOADED)


class Lines:
    """The lines of one operation; none for the bytes between two of them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told: dict[tuple[str, str], tuple[Status, str]] = {}
        self._once: set[tuple[str, str, Status]] = set()

    def update(self, progress: Progress) -> None:
        key, told = (progress.parent, progress.what), (progress.status, progress.note)
        is_told = self._told.get(key) == told and progress.status is not Status.PREPARING
        if progress.status.moves or is_told or (*key, progress.status) in self._once:
            return
        if progress.status in _ONCE:
            self._once.add((*key, progress.status))
        if progress.what:
            self._told[key] = told
        print(for_stream(line_of(progress), self._stream), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to do."""


def line_of(progress: Progress) -> str:
    """Return a line as docker writes it."""
    if progress.status is Status.DIGEST:
        return f"Digest: {progress.note}"
    text = f"{progress.status.value} {progress.note}" if progress.note else progress.status.value
    return one_line(f"{progress.what}: {text}" if progress.what else text)
