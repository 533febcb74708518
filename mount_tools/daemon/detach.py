"""Detach a process: fork, a new session, and a report to the process that waits.

Decided here and only here: how the command and the detached process are separated.
The command returns when the work has begun, or with the reason why it has not; if the
process dies without a report, it has failed (see `report`).  Container engines read the
command's stderr to its end, so a daemon closes descriptors 0, 1 and 2 before it reports.

The fork comes before the expensive imports and before any thread.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable
from functools import partial

from mount_tools.daemon.after_fork import close_all_but, forget_descriptors, release_stdio
from mount_tools.daemon.report import Died, Failed, Live, Report, Reporter, receive
from unionfs.light_signal import signal
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import NoReturn


class Outcome(NamedTuple):
    """How an attempt to mount ended: an exit status of mount(8) and a message for the user."""

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
"""The signals that a daemon blocks until its supervisor waits for them."""
_SECONDS_TO_END = 5.0

Serve = Callable[[Callable[[], None]], Outcome]


def keep_standard_fds() -> None:
    """Make sure descriptors 0, 1 and 2 are open, so that no other file gets their numbers."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd < 2:
        fd = os.dup(fd)
    if fd > 2:
        os.close(fd)


def ended_within(pidfd: int, seconds: float | None) -> bool:
    """Tell whether the process `pidfd` ends within so many seconds; None waits as long as it takes.

    The process is not waited for.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


class Detached:
    """A child in a session of its own.  The caller calls `report`, once.

    `reading` is the descriptor that its report comes by.
    """

    def __init__(self, pid: int, reading: int) -> None:
        self.pid = pid
        self.reading = reading

    def report(self) -> Report:
        """Wait until the child has closed its reporter, or has ended; return what it reports.

        A child that has not reported, or has reported Failed, is waited for.
        """
        try:
            report = receive(self.reading)
        except KeyboardInterrupt:
            # The child is in a session of its own, so the terminal does not signal it.
            os.kill(self.pid, signal.SIGTERM)
            if not self.ended_within(_SECONDS_TO_END):
                os.kill(self.pid, signal.SIGKILL)
                # Not even that ends it while it waits for a mount that nobody serves.
                self.ended_within(_SECONDS_TO_END)
            raise
        finally:
            os.close(self.reading)
        if isinstance(report, Live):
            return report
        _, status = os.waitpid(self.pid, 0)
        if isinstance(report, Failed):
            return report
        code = os.waitstatus_to_exitcode(status)
        return Died(f"was killed by signal {-code}" if code < 0 else f"ended with status {code}")

    def ended_within(self, seconds: float) -> bool:
        """Tell whether the child ends within so many seconds, and reap it if it does."""
        fd = os.pidfd_open(self.pid)
        try:
            ended = ended_within(fd, seconds)
        finally:
            os.close(fd)
        if ended:
            os.waitpid(self.pid, 0)
        return ended


def begin_detached(work: Callable[[Reporter], int], *, keep: Iterable[int] = ()) -> Detached:
    """Run `work(reporter)` in a child in a new session.

    In the child the working directory is /, every descriptor above 2 except those in `keep` is
    closed (a pipe of the caller's that it held open would keep the caller's reader waiting), and
    log handlers are gone.  `work` returns the exit status of the child.  An exception that leaves
    it is a bug: its traceback goes to stderr, and a child that has not reported is reported as
    `Died`.
    """
    reading, writing = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            os.close(reading)
            run_child(work, Reporter(writing), keep)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return Detached(child, reading)


def detach(work: Callable[[Reporter], int], *, keep: Iterable[int] = ()) -> Report:
    """Run `work(reporter)` as `begin_detached` does; return what it reports."""
    return begin_detached(work, keep=keep).report()


def run_child(
    work: Callable[[Reporter], int], reporter: Reporter, keep: Iterable[int] = ()
) -> NoReturn:
    """Do in a forked child what `begin_detached` says, and exit.

    Never returns into the frames of the process that forked.
    """
    status = BUG
    try:
        os.setsid()
        os.chdir("/")
        forget_descriptors()
        close_all_but(reporter.fd, *keep)
        status = work(reporter)
    except BaseException:
        from traceback import print_exc  # only for a bug

        print_exc()
    finally:
        os._exit(status)


def begin_daemon(serve: Serve, *, keep: Iterable[int] = ()) -> Detached:
    """Run `serve(live)` in a daemon; `outcome_of` its report tells how that began.

    `live` raises `BrokenPipeError` if the command that waited has gone.  `keep` are descriptors
    that stay open in the daemon.
    """
    return begin_detached(partial(serve_and_report, serve), keep=keep)


def serve_and_report(serve: Serve, reporter: Reporter) -> int:
    """Run `serve(live)` in a daemon that has been forked; return the exit status."""

    def live() -> None:
        release_stdio()
        try:
            reporter.live()
        finally:
            reporter.close()

    outcome = serve(live)
    if not reporter.sent:
        if outcome.status == OK:
            outcome = Outcome(FAILED, "the mount was ended before it was live")
        reporter.failed(*outcome)
    return outcome.status


def outcome_of(report: Report) -> Outcome:
    """Return what the report of a daemon means; only a `live()` gives status 0."""
    match report:
        case Live():
            return Outcome(OK)
        case Failed(status, text):
            return Outcome(status, text)
        case Died(how):
            return Outcome(
                SYSTEM,
                f"the daemon {how} before the mount was live; see why with -o foreground,debug",
            )


def run_detached(serve: Serve, keep: int | None = None) -> Outcome:
    """Run `serve(live)` in a daemon; return when it calls `live()` or gives up."""
    return outcome_of(begin_daemon(serve, keep=() if keep is None else (keep,)).report())
