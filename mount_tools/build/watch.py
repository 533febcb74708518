"""The events of a build, for the display that the user watches.

Stages run in parallel, so the calls of several stages may alternate; each step names its stage.

    step_began, then one of step_cached, step_finished and step_failed    for each step
    output                    in between, what the step's command prints
    succeeded                 once, at the end of a build that went well
"""

from __future__ import annotations

from collections.abc import Sequence

from unionfs.light_typing import NamedTuple, Protocol


class Shown(NamedTuple):
    """A step as it is shown: `number` of all `total` steps, from 1, its stage and its text.

    Stages are numbered in the order of the file; `stage_name` is "" for one without a name.
    """

    number: int
    total: int
    stage: int
    stage_name: str
    text: str


class Watcher(Protocol):
    """Shows a build."""

    def note(self, text: str) -> None:
        """Show a warning, or a sentence about the build as a whole."""

    def step_began(self, step: Shown) -> None:
        """The builder begins with a step: it looks it up in the cache, or runs it."""

    def step_cached(self, step: Shown, made: str) -> None:
        """The step was done by an earlier build; `made` is the short id of its topmost layer."""

    def step_running(self, step: Shown, container: str) -> None:
        """The step runs in the container with this short id."""

    def output(self, step: Shown, data: bytes) -> None:
        """The step's command has printed `data`."""

    def step_finished(self, step: Shown, seconds: float, made: str) -> None:
        """The step is done; `made` is the short id of an image or a layer, "" if there is none."""

    def step_failed(self, step: Shown) -> None:
        """The step has failed."""

    def stage_ended(self, stage: int) -> None:
        """The stage has no more steps."""

    def succeeded(self, image_id: str, names: Sequence[str]) -> None:
        """The image is made, and has these names."""

    def close(self) -> None:
        """Stop drawing: the build has succeeded or failed."""
