"""Whether a container runs or is mounted, and how to wait until it does not."""

from __future__ import annotations

import os

from layerstore.containers.container import Container
from layerstore.db.processes import ProcessId
from layerstore.errors import Conflict
from mount_tools.daemon.detach import ended_within
from mount_tools.mount.table import device_on

PATIENCE_DETACHED = 2.0  # seconds for a daemon to end whose mount was unmounted already


def refuse_running(container: Container) -> None:
    """Raise Conflict if the container runs or is mounted."""
    if container.running and container.mount_point and _is_ending(container):
        return
    if container.running and container.mount_point:
        raise Conflict(
            f"container {container.name} is mounted on {container.mount_point}: unmount it first"
        )
    if container.running:
        raise Conflict(f"container {container.name} is running: stop it first")


def _is_ending(container: Container) -> bool:
    """Wait for the daemon of a mount that was unmounted already; tell whether it has ended."""
    point, daemon = container.mount_point, container.process
    if point is None or daemon is None or device_on(point) is not None:
        return False
    return wait_for_end(daemon, PATIENCE_DETACHED)


def wait_for_end(process: ProcessId, seconds: float) -> bool:
    """Wait at most `seconds` for the end of `process`; tell whether it has ended."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        # Another process may have its pid by now.
        return not process.alive() or ended_within(pidfd, seconds)
    finally:
        os.close(pidfd)
