"""Take the signals of a process that waits for a command, and pass them on; none is lost.

Decided here and only here: which signals are passed on, and that they stay blocked and are
taken with sigwaitinfo(2), never handled.  Python runs a handler between two instructions of
the interpreter.  If a signal comes after the last instruction before a wait, it is
handled only after the wait, so it could not end the wait.

Threading: a process of one thread; with more the kernel may give a signal to another one.

Source: signal(7), sigwaitinfo(2); sigaction(2) for `si_code`.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_SIGNAL = r"(?:([0-9]{1,3})|(?:SIG)?([A-Z0-9]+)(?:([+-])([0-9]{1,2}))?)"

_FAULTS = (
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGSYS,
)
EVERY = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, *_FAULTS}
"""The signals that a process can block and take, whatever it does: the init's."""

TAKEN = frozenset((*PASSED_ON, signal.SIGCHLD))
"""The signals that `attend` takes.  They are blocked before it forks the child."""


@contextmanager
def held() -> Iterator[None]:
    """Block the signals of TAKEN; those that were not taken are delivered at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
    # If SIGCHLD is ignored there is none, and the kernel discards the status of children.
    on_child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        if on_child is not None:  # None: it was not set by Python
            signal.signal(signal.SIGCHLD, on_child)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def next_signal() -> signal.struct_siginfo:
    """Wait for a signal of TAKEN, and take it."""
    return signal.sigwaitinfo(TAKEN)


def attend(
    child: int,
    pass_on: Callable[[signal.struct_siginfo], None],
    *,
    orphans: bool = False,
    wait: Callable[[], signal.struct_siginfo] = next_signal,
) -> int:
    """Wait until `child` ends; return its wait status.  With `orphans` reap all others too.

    The signals of TAKEN are blocked.  `wait` takes the next one; all but SIGCHLD go to
    `pass_on`.
    """
    while True:
        # Before the first wait: for a child that ended earlier there is no SIGCHLD.
        status = _reaped(child, orphans=orphans)
        if status is not None:
            return status
        taken = wait()
        if taken.si_signo != signal.SIGCHLD:
            pass_on(taken)


def _reaped(child: int, *, orphans: bool) -> int | None:
    """Reap every child that has ended, since one SIGCHLD may stand for many, up to `child`."""
    while True:
        pid, status = os.waitpid(-1 if orphans else child, os.WNOHANG)
        if pid == child:
            return status
        if pid == 0:
            return None


def is_typed(taken: signal.struct_siginfo) -> bool:
    """Tell whether a signal was typed at the terminal, which sends it to our process group."""
    return taken.si_signo in _FROM_TERMINAL and taken.si_code > 0


def begin_afresh() -> None:
    """Unblock all signals and ignore none, since execve(2) keeps both."""
    for number in (*TAKEN, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def find_signal(text: str) -> int | None:
    """Return the number of the signal `text`: `SIGINT`, `INT`, `int`, `2`, `RTMIN+3`; or None."""
    found = re.fullmatch(_SIGNAL, text.upper())
    if found is None:
        return None
    digits, name, sign, offset = found.groups()
    number = int(digits) if digits else _named(name)
    if offset:
        number += int(sign + offset)
    return number if 0 < number <= signal.SIGRTMAX else None


def _named(name: str) -> int:
    """Return the number of the signal `name`, without its SIG; 0 if there is none."""
    return next((int(one) for one in signal.Signals if one.name == f"SIG{name}"), 0)


def signal_number(text: str) -> int:
    """Return the number of a signal of an image's StopSignal.

    Any text that names no signal, also "", means SIGTERM.
    """
    return find_signal(text) or signal.SIGTERM
