"""A build as lines of text, in the words of docker's classic builder.

Stages run in parallel, and their lines would mix.  So only the first of the running stages is
shown live; the lines of the others are kept until all stages before them have ended.

Source: moby `builder/dockerfile/dispatchers.go`, `builder.go`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mount_tools.build.watch import Shown
from mount_tools.cli.output.terminal import escaped
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


class Lines:
    """Writes lines to `stream`; the output of a command goes there byte for byte."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._begun: dict[int, bytes] = {}
        self._kept: dict[int, list[bytes]] = {}
        self._order: list[int] = []
        self._ended: set[int] = set()

    def note(self, text: str) -> None:
        self._show_begun()
        self._write(f"{text}\n".encode(errors="surrogateescape"))

    def step_began(self, step: Shown) -> None:
        # Written with the next line, which follows at once: half as many writes.
        line = self._encoded(f"Step {step.number}/{step.total} : {step.text}")
        self._begun[step.stage] = self._begun.get(step.stage, b"") + line
        if step.stage not in self._order:
            self._order.append(step.stage)

    def step_cached(self, step: Shown, made: str) -> None:
        self._say(step, f" ---> Using cache\n ---> {made}")

    def step_running(self, step: Shown, container: str) -> None:
        self._say(step, f" ---> Running in {container}")

    def output(self, step: Shown, data: bytes) -> None:
        self._put(step.stage, data)

    def step_finished(self, step: Shown, seconds: float, made: str) -> None:
        self._put(step.stage, self._encoded(f" ---> {made}") if made else b"")

    def step_failed(self, step: Shown) -> None:
        self._show_begun()  # and no more: the command prints the error that ends the build

    def stage_ended(self, stage: int) -> None:
        self._show_begun()
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
        self._show_begun()
        for kept in self._kept.values():
            for data in kept:
                self._write(data)
        self._kept.clear()

    def _say(self, step: Shown, line: str) -> None:
        self._put(step.stage, self._encoded(line))

    def _encoded(self, line: str) -> bytes:
        shown = escaped(line) if self._is_terminal else line
        return f"{shown}\n".encode(errors="surrogateescape")

    def _show_begun(self) -> None:
        for stage in list(self._begun):
            self._put(stage, b"")

    def _put(self, stage: int, data: bytes) -> None:
        data = self._begun.pop(stage, b"") + data
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
        super().step_failed(step)
        for data in self._said:
            super()._write(data)

    def _write(self, data: bytes) -> None:
        self._said.append(data)
