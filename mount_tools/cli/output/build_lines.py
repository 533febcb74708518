"""A build as lines of text, in the words of docker's classic builder.

Stages run in parallel, and their lines would mix.  So only the first of the running stages is
shown live; the lines of the others are kept until all stages before them have ended.

Source: moby `builder/dockerfile/dispatchers.go`, `builder.go`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mount_tools.build.watch import Shown
from mount_tools.cli.output.terminal import for_stream
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


class Lines:
    """Writes lines to `stream`; the output of a command goes there byte for byte."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._kept: dict[int, list[bytes]] = {}
        self._order: list[int] = []
        self._ended: set[int] = set()

    def note(self, text: str) -> None:
        self._write(f"{text}\n".encode(errors="surrogateescape"))

    def step_began(self, step: Shown) -> None:
        self._say(step, f"Step {step.number}/{step.total} : {step.text}")

    def step_cached(self, step: Shown, made: str) -> None:
        self._say(step, " ---> Using cache")
        self._say(step, f" ---> {made}")

    def step_running(self, step: Shown, container: str) -> None:
        self._say(step, f" ---> Running in {container}")

    def output(self, step: Shown, data: bytes) -> None:
        self._put(step.stage, data)

    def step_finished(self, step: Shown, seconds: float, made: str) -> None:
        if made:
            self._say(step, f" ---> {made}")

    def step_failed(self, step: Shown) -> None:
        """Shows nothing: the command prints the error that ends the build."""

    def stage_ended(self, stage: int) -> None:
        self._ended.add(stage)
        while self._order and self._order[0] in self._ended:
            self._order.pop(0)
            if self._order:
                for data in self._kept.pop(self._order[0], []):
                    self._write(data)

    def succeeded(self, image_id: str, names: Sequence[str]) -> None:
        self.note(f"Successfully built {image_id}")
        for name in names:
            self.note(f"Successfully tagged {name}")

    def close(self) -> None:
        for kept in self._kept.values():
            for data in kept:
                self._write(data)
        self._kept.clear()

    def _say(self, step: Shown, line: str) -> None:
        shown = for_stream(line, self._stream)
        self._put(step.stage, f"{shown}\n".encode(errors="surrogateescape"))

    def _put(self, stage: int, data: bytes) -> None:
        if stage not in self._order:
            self._order.append(stage)
        if self._order[0] == stage:
            self._write(data)
        else:
            self._kept.setdefault(stage, []).append(data)

    def _write(self, data: bytes) -> None:
        self._stream.flush()
        self._stream.buffer.write(data)
        self._stream.buffer.flush()


class Silent(Lines):
    """Shows nothing if the build succeeds; shows all its output if it fails."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._said: list[bytes] = []

    def note(self, text: str) -> None:
        """Say nothing."""

    def step_failed(self, step: Shown) -> None:
        for data in self._said:
            super()._write(data)

    def _write(self, data: bytes) -> None:
        self._said.append(data)
