"""Leaving the terminal: fork, wait until the mount is live, let stdio go.

Decided here and only here: how the command and the daemon it leaves behind part.
The command returns when the mount is live, or with the reason why it is not;
container engines read its stderr until the end, so the daemon gives up
descriptors 0, 1 and 2 before that.

The fork comes before the expensive imports and before any thread.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from mount_tools.daemon.after_fork import forget_descriptors


class Outcome(NamedTuple):
    """How an attempt to mount ended: an exit status of mount(8) and what to tell the user."""

    status: int
    message: str = ""


# mount(8) "EXIT STATUS"
OK = 0
USAGE = 1
SYSTEM = 2
BUG = 4
INTERRUPTED = 8
FAILED = 32

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that unmount."""
WATCHED = (*ENDING, signal.SIGUSR1)
"""The signals a daemon holds back until somebody watches for them."""

Serve = Callable[[Callable[[], None]], Outcome]


def keep_standard_fds() -> None:
    """Make sure descriptors 0, 1 and 2 are open, so that no other file gets their numbers."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd < 2:
        fd = os.dup(fd)
    if fd > 2:
        os.close(fd)


def release_stdio() -> None:
    """Turn descriptors 0, 1 and 2 to /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)


def run_detached(serve: Serve, keep: int | None = None) -> Outcome:
    """Run `serve(live)` in a new session; return when it calls `live()` or gives up.

    Descriptors above 2, but for `keep`, are closed in the daemon: a pipe of the
    caller's that it held open would keep the caller waiting.  `live` raises
    `BrokenPipeError` when the command that waited has gone.
    """
    result, report = os.pipe()
    daemon = os.fork()
    if daemon == 0:
        os.close(result)
        _run_daemon(serve, report, keep)
    os.close(report)
    try:
        with open(result, "rb") as pipe:
            told = pipe.read()
    except KeyboardInterrupt:
        # In a session of its own the daemon has not heard of it.
        os.kill(daemon, signal.SIGTERM)
        os.waitpid(daemon, 0)
        raise
    if not told:
        _, status = os.waitpid(daemon, 0)
        return Outcome(SYSTEM, _how_it_died(status))
    status_text, _, message = told.partition(b" ")
    return Outcome(int(status_text), message.decode(errors="surrogateescape"))


def _how_it_died(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return f"the daemon {how} before the mount was up; try -o foreground,debug to see why"


def _run_daemon(serve: Serve, report: int, keep: int | None) -> NoReturn:
    """Serve and exit; never returns into the frames it was forked from."""
    outcome = Outcome(BUG)
    told = False

    def tell(outcome: Outcome) -> None:
        nonlocal told
        told = True
        try:
            os.write(report, f"{outcome.status} {outcome.message}".encode(errors="surrogateescape"))
        finally:
            os.close(report)

    def live() -> None:
        release_stdio()
        tell(Outcome(OK))

    try:
        os.setsid()
        os.chdir("/")
        forget_descriptors()
        _close_all_but(report, *(() if keep is None else (keep,)))
        outcome = serve(live)
        if not told:
            tell(outcome)
    except BaseException:
        # Only a bug outside of what `serve` guards gets here.
        traceback.print_exc()
    finally:
        os._exit(outcome.status)


def _close_all_but(*kept: int) -> None:
    start = 3
    for fd in sorted(kept):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
