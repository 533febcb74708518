"""A command that has been started in a container: how we hear of it, and wait for it.

Decided here and only here: what is passed on to it meanwhile, and what its exit
status is.

Threading: one thread, which has the signals held.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from typing import NamedTuple

from mount_tools.container.init import exit_code
from mount_tools.container.process import CannotStart
from mount_tools.container.signals import attend, is_typed, next_signal
from mount_tools.container.terminal import Relay


class Started(NamedTuple):
    """A command that runs: our child that ends with it, and the process to pass signals to.

    `terminal` is the master of the terminal it has for itself, if it has one.
    """

    outer: int
    target: int
    terminal: int | None = None


def raise_reported(report: int) -> None:
    """Wait until the command runs, or raise CannotStart with why it does not."""
    with open(report, "rb", closefd=False) as pipe:
        told = pipe.read()
    if told:
        status, _, text = told.partition(b" ")
        raise CannotStart(int(status), text.decode(errors="surrogateescape"))


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
                return  # whoever ignores it, by nohup(1) say, means it for all he runs
            elif relay is not None or not is_typed(taken):
                with suppress(ProcessLookupError):
                    os.kill(started.target, number)

        wait = next_signal if relay is None else relay.wait
        return exit_code(attend(started.outer, pass_on, wait=wait))
