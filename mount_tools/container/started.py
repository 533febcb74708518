"""A command that runs in a container: passing signals on to it, waiting for it, ending it.

Decided here and only here: which signals are passed on, and what the exit status is.

Threading: one thread, which has the signals of `signals.TAKEN` blocked.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from typing import NamedTuple

from mount_tools.container.init import exit_code
from mount_tools.container.signals import attend, is_typed, next_signal
from mount_tools.container.terminal import Relay


class Started(NamedTuple):
    """A command that runs: our child that ends with it, and the process to pass signals to.

    `terminal` is the master of the terminal it has for itself, if it has one.
    """

    outer: int
    target: int
    terminal: int | None = None


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


def attend_started(started: Started) -> int:
    """Pass on signals, and what is typed, until the command ends; return its exit status."""
    with ExitStack() as stack:
        relay = None
        if started.terminal is not None:
            relay = stack.enter_context(Relay(started.terminal))

        def pass_on(taken: signal.struct_siginfo) -> None:
            number = taken.si_signo
            if relay is not None and number == signal.SIGWINCH:
                relay.resize()
            elif signal.getsignal(number) == signal.SIG_IGN:
                return  # ignored, by nohup(1) say: that is meant for all that runs below it
            elif relay is not None or not is_typed(taken):
                with suppress(ProcessLookupError):
                    os.kill(started.target, number)

        wait = next_signal if relay is None else relay.wait
        return exit_code(attend(started.outer, pass_on, wait=wait))
