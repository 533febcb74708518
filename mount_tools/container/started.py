"""A command that runs in a container: how its first process begins, and how it is ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from mount_tools.container.handshake import Channel, channel
from mount_tools.container.process import in_child
from mount_tools.container.streams import Ends
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import NoReturn


class Started(NamedTuple):
    """A command that runs: our child that ends with it, and the process to pass signals to.

    If that is not our child itself, `target_fd` is a pidfd of it.
    """

    child: int
    target: int
    target_fd: int | None = None


def begin(ends: Ends, work: Callable[[int, Channel], NoReturn]) -> tuple[int, Channel]:
    """Do `work` in a child that has `ends` as its standard streams, and that we end with.

    Returns its pid and our end of a channel to it, which the caller closes.  `work` gets a pidfd
    of this process and the other end; an error that stops it is sent as Failed.
    """
    parent = os.pidfd_open(os.getpid())
    ours, theirs = channel()
    child = os.fork()
    if child == 0:
        ours.close()
        ends.take()
        in_child(lambda: work(parent, theirs), theirs)
    os.close(parent)
    theirs.close()
    ends.close()
    try:
        ours.watch(child)
    except BaseException:
        end_started(child)
        ours.close()
        raise
    return child, ours


def end_started(child: int) -> int:
    """Kill our child, and with it all that it started; return its wait status."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def end_target(started: Started) -> None:
    """Kill the target of a child that has ended, perhaps by a signal and before it."""
    if started.target_fd is not None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(started.target_fd, signal.SIGKILL)
        os.close(started.target_fd)


def silence_text(what: str, status: int) -> str:
    """Return a sentence: `what` ended with that wait status before its command ran."""
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return f"{what} {how} before its command ran"
