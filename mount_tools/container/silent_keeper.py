"""A keeper that does not answer: what a command says that waits for it, and when it gives up.

The keeper serves the root of its container, so whatever touches that waits for the keeper, and
not even SIGKILL ends such a wait once the keeper has read the request.  A command asks the keeper
first, by its socket, where it can give up at any time.

Decided here and only here: which processes keep a container, how long a command waits in silence,
and that a keeper which somebody stopped, or which hangs, is an error, since it answers nobody.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

from layerstore.containers.container import Container
from layerstore.db.processes import is_stopped, parent_of
from layerstore.errors import Busy

SILENCE = 3.0
"""Seconds that a command waits before it says for what."""
PATIENCE = 60.0
"""Seconds that it waits for an answer, which would come at once if nothing hung."""


def keepers(container: Container) -> list[int]:
    """Return the processes that keep a running container, the one that serves its root last."""
    process = container.process
    if process is None or container.mount_point is not None:
        return [] if process is None else [process.pid]
    with suppress(ProcessLookupError):
        parent = parent_of(process.pid)
        if parent > 0:  # it is shown to us
            # The parent of init may be the outer process.  The keeper leads a session.
            return list(dict.fromkeys((parent, os.getsid(parent))))
    return []


def stopped_keeper(container: Container) -> int | None:
    """Return a process that keeps the container and that somebody has stopped; None if none is."""
    return next((pid for pid in keepers(container) if is_stopped(pid)), None)


def refuse_stopped(container: Container) -> None:
    """Raise Busy if the container's keeper was stopped, since it answers nobody."""
    pid = stopped_keeper(container)
    if pid is not None:
        raise Busy(f"container {container.name} does not answer: {stopped_text(pid)}")


def wake(container: Container) -> None:
    """Let the processes that keep the container go on, if somebody has stopped them.

    Without them no process that was killed ends, if it waits for the root, no mount is written
    back, and nobody records how the container ended.
    """
    for pid in keepers(container):
        with suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                if is_stopped(pid):
                    signal.pidfd_send_signal(fd, signal.SIGCONT)
            finally:
                os.close(fd)


def stopped_text(pid: int) -> str:
    """Return what to say of the keeper `pid` that was stopped."""
    return f"the process that keeps it, {pid}, was stopped; `kill -CONT {pid}` lets it go on"


def silent_text(container: Container, seconds: float) -> str:
    """Return what to say of a keeper that has not answered for `seconds`, though it may run."""
    pid = next(reversed(keepers(container)), None)
    whose = "" if pid is None else f", {pid},"
    return f"the process that keeps it{whose} has not answered for {seconds:.0f} s"


def hung_text(container: Container, seconds: float) -> str:
    """Return what to say of a keeper that is given up after `seconds`, and what to do."""
    pid = next(reversed(keepers(container)), None)
    end = "" if pid is None else f"; `kill -KILL {pid}` ends it, and the container with it"
    return silent_text(container, seconds) + end


class Waiting:
    """A wait for the keeper of a container, which does not stay silent for ever."""

    def __init__(self, container: Container, *, answers: bool) -> None:
        """`answers`: what we wait for is an answer, which comes at once.

        Otherwise we wait for what the container does, however long that takes.
        """
        self._container = container
        self._answers = answers
        self._said = False
        self._since = time.monotonic()

    def events(self, poll: select.poll) -> list[tuple[int, int]]:
        """Wait for an event of `poll`; return those that are there.

        Raises Busy if an answer was expected and the keeper was stopped, or hangs.
        """
        while True:
            # One that has said everything has nothing to look for.
            found = poll.poll(None if self._said and not self._answers else SILENCE * 1000)
            if found:
                return found
            self._look()

    def _look(self) -> None:
        container = self._container
        if self._answers:
            refuse_stopped(container)
            if time.monotonic() - self._since >= PATIENCE:
                text = hung_text(container, PATIENCE)
                raise Busy(f"container {container.name} does not answer: {text}")
            text = silent_text(container, SILENCE)
        else:
            pid = stopped_keeper(container)
            if pid is None:
                return
            text = stopped_text(pid)
        if not self._said:
            self._said = True
            with suppress(OSError):
                print(f"waiting for container {container.name}: {text}", file=sys.stderr)
