"""A terminal for programs under test: what a person would type, see and resize."""

from __future__ import annotations

import os
import pty
import select
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers.mounts import DEADLINE


class Terminal:
    """A pseudo-terminal; `program` is the end for the program, and all said to it is in `seen`."""

    def __init__(self, rows: int, columns: int) -> None:
        self._ours, self.program = pty.openpty()
        os.set_blocking(self._ours, False)
        self.seen = b""
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self._ours, (rows, columns))

    def settings(self) -> list[object]:
        return list(termios.tcgetattr(self.program))

    def await_text(self, text: bytes) -> bytes:
        """Wait until `text` is said; return what was said up to its end, and forget that."""
        end = time.monotonic() + DEADLINE
        while text not in self.seen:
            assert time.monotonic() < end, (text, self.seen)
            self._turn(select.POLLIN)
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def type(self, keys: bytes) -> None:
        """Type `keys`, reading meanwhile what is said."""
        end = time.monotonic() + DEADLINE
        while keys:
            assert time.monotonic() < end, "nobody reads what is typed"
            if self._turn(select.POLLIN | select.POLLOUT) & select.POLLOUT:
                keys = keys[os.write(self._ours, keys[:1024]) :]

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.program)

    def _turn(self, wanted: int) -> int:
        poll = select.poll()
        poll.register(self._ours, wanted)
        found = 0
        for _, found in poll.poll(200):
            if found & select.POLLIN:
                self.seen += os.read(self._ours, 1 << 16)
        return found


@contextmanager
def terminal(rows: int = 33, columns: int = 77) -> Iterator[Terminal]:
    """Yield a terminal of that size."""
    made = Terminal(rows, columns)
    try:
        yield made
    finally:
        made.close()
