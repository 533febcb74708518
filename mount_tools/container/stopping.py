"""End a container: ask its command and then kill it, or unmount it."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

from layerstore.containers.container import Container
from layerstore.errors import Busy
from layerstore.oci.run_config import RunConfig
from layerstore.store import Store
from mount_tools.container.pausing import resume
from mount_tools.container.running import wait_for_end
from mount_tools.container.signals import signal_number
from mount_tools.container.silent_keeper import hung_text, wake

_SECONDS_TO_DIE = 10.0
SECONDS_TO_NOTE = 10.0
_FIRST_LOOK, _LONGEST = 0.0005, 0.01  # seconds between two looks


def stop_container(store: Store, container: Container, seconds: float | None = None) -> None:
    """End the container's command: ask it, and after so many seconds kill it.

    Without `seconds` the container's own configuration says how many.  Raises Busy if its keeper
    hangs, so that the container still counts as running.
    """
    process = container.process
    if process is None:
        return
    if seconds is None:
        seconds = RunConfig(container.config).stop_timeout
    number = signal_number(RunConfig(container.config).stop_signal)
    wake(container)
    with suppress(ProcessLookupError):
        if seconds > 0:
            process.send(number)
            resume(container)
        if seconds <= 0 or not wait_for_end(process, seconds):
            process.send(signal.SIGKILL)
            wait_for_end(process, _SECONDS_TO_DIE)
    _wait_for_note(store, container)


def _wait_for_note(store: Store, container: Container) -> None:
    """Wait until the process that ran it records how it ended, unless it was killed too."""
    end, pause = time.monotonic() + SECONDS_TO_NOTE, _FIRST_LOOK
    while store.containers.exists(container.id):
        now = store.containers.get(container.id)
        if now.finished_ns is not None:
            return
        if time.monotonic() >= end:
            if now.running:
                text = hung_text(container, SECONDS_TO_NOTE)
                raise Busy(
                    f"container {container.name} was killed, but its end is not recorded: {text}"
                )
            return
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)


def end_container(store: Store, container: Container) -> None:
    """End a container at once, however it runs, as `rm -f` does."""
    if container.mount_point is None:
        stop_container(store, container, 0)
        return
    from mount_tools.container.mount import unmount_container  # few containers are mounted

    try:
        unmount_container(container, detach=True)
    except Busy:
        # A program that still uses it gets errors from now on.
        daemon = container.process
        if daemon is not None and daemon.alive():
            with suppress(ProcessLookupError):
                daemon.send(signal.SIGKILL)
            wait_for_end(daemon, _SECONDS_TO_DIE)
