"""Wait for log lines of a running container, and for its end."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Iterator

from layerstore.containers.container import Container
from layerstore.containers.container_log import LogEntry, LogReader
from layerstore.store import Store
from mount_tools.container.attach_messages import Connection, Ended, Gone, Watch, connect
from mount_tools.container.running import wait_for_end
from mount_tools.container.silent_keeper import Waiting

_SECONDS_TO_DIE = 10.0


def wait_for_command(store: Store, container: Container) -> int:
    """Wait until the container's command has ended; return its exit status.

    Raises NoSuchContainer if it was removed before this process could wait.
    """
    connection = connect(container.directory, Watch(output=False))
    if connection is not None:
        waiting = Waiting(container, answers=False)
        try:
            while True:
                message = _next(connection, waiting)
                if isinstance(message, Ended):
                    return message.status
                if message is None:
                    break
        finally:
            connection.close()
    # It does not run; or its keeper was killed, and the kernel kills the rest.
    container = store.containers.get(container.id)
    if container.process is not None:
        wait_for_end(container.process, _SECONDS_TO_DIE)
        container = store.containers.get(container.id)
    return container.exit_code or 0


def log_entries(
    container: Container, *, follow: bool, tail: int | None = None
) -> Iterator[LogEntry]:
    """Yield the log of a container, or the last `tail` entries that are there.

    With `follow` go on until its command has ended.
    """
    directory = container.directory
    # Connect before reading, so that no line is missed.
    connection = connect(directory, Watch(output=False)) if follow else None
    waiting = Waiting(container, answers=False)
    try:
        with LogReader(directory) as reader:
            there = reader.entries()
            yield from there if tail is None else deque(there, tail)
            while connection is not None:
                message = _next(connection, waiting)
                yield from reader.entries()
                if message is None or isinstance(message, Ended):
                    return
    finally:
        if connection is not None:
            connection.close()


def _next(connection: Connection, waiting: Waiting) -> object | None:
    """Wait for the keeper's next message; None if it is gone."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while True:
        waiting.events(poll)
        try:
            message = connection.receive()
        except Gone:
            return None
        if message is not None:
            return message
