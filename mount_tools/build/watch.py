"""What a build tells the person who waits for it.

    for each stage    stage_began
    for each step     step_began, then step_cached or step_finished or step_failed
    in between        output, what the step's command prints

Stages run side by side, so the calls of several stages may alternate; a step says its stage.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Shown(NamedTuple):
    """A step as it is shown: `number` of all `total` steps, from 1, its stage and its text."""

    number: int
    total: int
    stage: int
    text: str


class Watcher(Protocol):
    """Shows a build."""

    def note(self, text: str) -> None:
        """Show a warning, or a sentence about the build as a whole."""

    def step_began(self, step: Shown) -> None: ...

    def step_cached(self, step: Shown) -> None: ...

    def step_running(self, step: Shown, container: str) -> None:
        """The step's command is about to run, in the container with this short id."""

    def output(self, step: Shown, data: bytes) -> None: ...

    def step_finished(self, step: Shown, seconds: float, made: str) -> None:
        """The step is done; `made` is the short id of the image so far, "" if it has none."""

    def step_failed(self, step: Shown) -> None: ...

    def close(self) -> None:
        """Stop drawing; the build has ended."""
