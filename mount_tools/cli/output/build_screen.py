"""A build on a terminal, drawn by rich: a line for each step with its time.

Below the finished steps are the running ones, each with the last lines that its command has
printed.  At the end a line says how many steps were done and how many were cached.

Threading: rich draws in a thread of its own; the builder's thread calls.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from mount_tools.build.watch import Shown
from mount_tools.cli.output.terminal import one_line
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

LINES_SHOWN = 5
LINES_KEPT = 40
"""Of a step that fails: the reason is often not in the last line."""
_LONGEST = 10_000  # bytes of a line without an end


@dataclass
class _Running:
    """A running step: when it began, the complete lines of its output, and the partial one."""

    step: Shown
    since: float
    lines: list[str] = field(default_factory=list)
    begun: bytes = b""

    def take(self, data: bytes) -> None:
        *whole, self.begun = (self.begun + data).split(b"\n")
        self.begun = self.begun[-_LONGEST:]
        # A progress bar redraws its line after a carriage return: only the last state counts.
        self.lines += [_shown(line) for line in whole]
        del self.lines[:-LINES_KEPT]


def _shown(line: bytes) -> str:
    text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
    return one_line(text.expandtabs())


class Screen:
    """Draws on the terminal `stream` until it is closed."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._running: dict[int, _Running] = {}
        self._cached = self._done = 0
        self._start = time.monotonic()
        self._live = Live(
            self, console=self._console, refresh_per_second=10, transient=True, auto_refresh=True
        )
        self._live.start()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the steps at work; rich calls this."""
        rows: list[Text] = []
        now = time.monotonic()
        for running in list(self._running.values()):
            rows.append(_line(running.step, f"{now - running.since:.1f}s", "cyan"))
            for text in running.lines[-LINES_SHOWN:]:
                rows.append(Text(f"      {text}", style="dim", no_wrap=True, overflow="ellipsis"))
        yield Group(*rows)

    def note(self, text: str) -> None:
        self._print(Text(one_line(text), style="yellow"))

    def step_began(self, step: Shown) -> None:
        self._running[step.stage] = _Running(step, time.monotonic())

    def step_cached(self, step: Shown, made: str) -> None:
        self._running.pop(step.stage, None)
        self._cached += 1
        self._print(_line(step, "cached", "blue"))

    def step_running(self, step: Shown, container: str) -> None:
        """Does nothing: `step_began` shows the step as running."""

    def output(self, step: Shown, data: bytes) -> None:
        running = self._running.get(step.stage)
        if running is not None:
            running.take(data)

    def step_finished(self, step: Shown, seconds: float, made: str) -> None:
        self._running.pop(step.stage, None)
        self._done += 1
        self._print(_line(step, f"{seconds:.1f}s", "green"))

    def step_failed(self, step: Shown) -> None:
        running = self._running.pop(step.stage, None)
        self._print(_line(step, "failed", "red"))
        if running is not None:
            last = [_shown(running.begun)] if running.begun else []
            for text in [*running.lines, *last]:
                self._print(Text(f"      {text}"))

    def stage_ended(self, stage: int) -> None:
        self._running.pop(stage, None)

    def succeeded(self, image_id: str, names: Sequence[str]) -> None:
        seconds = time.monotonic() - self._start
        self._print(
            Text(
                f"Built {image_id} in {seconds:.1f} s: {_steps(self._done)} done, "
                f"{self._cached} cached",
                style="bold",
            )
        )
        for name in names:
            self._print(Text(f"Tagged {one_line(name)}", style="bold"))

    def close(self) -> None:
        self._running.clear()
        self._live.stop()

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _line(step: Shown, right: str, style: str) -> Text:
    name = f" {step.stage_name}" if step.stage_name else ""
    width = len(str(step.total))
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{right:>8} ", style=style)
    line.append(f"[{step.number:>{width}}/{step.total}{name}] ", style="dim")
    line.append(one_line(step.text))
    return line
