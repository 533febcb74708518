"""The texts that describe a container: its command, its status, its image.

Source: moby `daemon/list.go`, `container/state.go:String()`.
"""

from __future__ import annotations

import time

from layerstore.containers.container import Container
from layerstore.errors import StoreError
from layerstore.light_json import dumps
from layerstore.oci.durations import SECOND
from layerstore.oci.run_config import RunConfig
from layerstore.store import Store
from mount_tools.cli.output.human import age, human_duration, short_id
from mount_tools.container.pausing import is_paused


def command_line(container: Container) -> str:
    """Return the command line of a container; words that contain spaces are quoted."""
    return " ".join(
        f"'{word}'" if at and " " in word else word
        for at, word in enumerate(RunConfig(container.config).argv)
    )


def quoted(text: str) -> str:
    """Return `text` between double quotes, control characters escaped."""
    return dumps(text, ascii_only=False)


def state_of(container: Container) -> str:
    """Return the state of a container in docker's words."""
    return "paused" if is_paused(container) else container.status


def status_text(container: Container, *, paused: bool = False) -> str:
    """Return the STATUS column; a mounted container is up although no command runs."""
    if container.status == "created":
        return "Created"
    if container.running:
        since = time.time_ns() - (container.started_ns or container.created_ns)
        how = " (Mounted)" if container.mount_point else ""
        if paused:
            how = " (Paused)"
        return f"Up {human_duration(since / SECOND)}{how}"
    code = 0 if container.exit_code is None else container.exit_code
    return f"Exited ({code}) {age(container.finished_ns or container.created_ns)}"


def image_text(store: Store, container: Container, *, whole: bool = False) -> str:
    """Return the name of the image as given, or its id if that name now means another image."""
    try:
        if store.images.resolve(container.image_name).id == container.image:
            return container.image_name
    except StoreError:
        pass  # the name was removed
    return str(container.image) if whole else short_id(container.image)
