"""A command that runs in a container: its processes, and how they are ended."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import NamedTuple


class Started(NamedTuple):
    """A command that runs: our child that ends with it, and the process to pass signals to."""

    outer: int
    target: int


def end_started(outer: int) -> int:
    """Kill the outer process of a command, and with it all that it started; return its status."""
    with suppress(ProcessLookupError):
        os.kill(outer, signal.SIGKILL)
    return os.waitpid(outer, 0)[1]


def silence_text(what: str, status: int) -> str:
    """Return a sentence: `what` ended with that wait status before its command ran."""
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return f"{what} {how} before its command ran"
