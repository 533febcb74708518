"""The way into a running container: what /proc shows of its first process.

Decided here and only here: from when on that leads into the container.  The store has the pid
before the process has entered its root, and until then /proc/PID/root is the root of this
machine.  Only the container's keeper knows when the command runs: it answers nobody before.
The stage of a build has no keeper, and never enters a root.

A process that is ending leads nowhere, and what it was a child of is not in the container.
Once something of a process is open, `check_still` tells whether the pid was its pid until then.
"""

from __future__ import annotations

import select

from layerstore.containers.container import Container
from layerstore.db.processes import ProcessId, way_in
from layerstore.errors import StoreError
from mount_tools.container.attach_messages import Gone, Input, Taken, Watch, connect
from mount_tools.container.silent_keeper import Waiting


def wait_until_entered(container: Container) -> None:
    """Return when the container's first process has entered its root.

    Raises StoreError; Busy if the keeper was stopped, or hangs.
    """
    if not answers(container):
        raise StoreError(
            f"container {container.name} cannot be entered: it has ended, or is the stage of a "
            "build"
        )


def first_process(container: Container) -> ProcessId:
    """Return the first process of a running container."""
    return container.process or ProcessId(0, 0)


def way_into(process: ProcessId) -> str:
    """Return the directory of /proc that leads into the container whose first process that is.

    What is opened in it is the container's only if `check_still` agrees then.  Raises StoreError
    if the container has ended.
    """
    try:
        return f"/proc/{way_in(process.pid)}"
    except ProcessLookupError:
        raise StoreError("the container has ended") from None


def check_still(process: ProcessId) -> None:
    """Raise StoreError unless a container's first process lives: what was opened is not of it."""
    if not process.alive():
        raise StoreError("the container has ended")


def answers(container: Container) -> bool:
    """Wait for the keeper's answer to an empty input; tell whether there is one.

    Raises Busy if the keeper was stopped, or hangs.
    """
    connection = connect(container.directory, Watch(output=False))
    if connection is None:
        return False
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    waiting = Waiting(container, answers=True)
    try:
        connection.send(Input(b""))
        while True:
            waiting.events(poll)
            if isinstance(connection.receive(), Taken):
                return True
    except Gone:
        return False
    finally:
        connection.close()
