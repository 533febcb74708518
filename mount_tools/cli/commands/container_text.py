"""How a container is told of: its command, its status, the image it is of.

Source: moby `daemon/list.go`, `container/state.go:String()`.
"""

from __future__ import annotations

import json
import time

from layerstore.containers.containers import Container
from layerstore.errors import StoreError
from layerstore.oci.run_config import RunConfig
from layerstore.store import Store
from mount_tools.cli.output.human import NS, age, human_duration, short_id


def command_words(container: Container) -> list[str]:
    """Return what the container runs: its entrypoint and command."""
    return RunConfig(container.config).argv


def command_line(container: Container) -> str:
    """Return what the container runs, words with spaces in them in quotes."""
    return " ".join(
        f"'{word}'" if at and " " in word else word
        for at, word in enumerate(command_words(container))
    )


def quoted(text: str) -> str:
    """Return `text` between quotes, what cannot be seen escaped."""
    return json.dumps(text, ensure_ascii=False)


def labels_of(container: Container) -> dict[str, str]:
    """Return the container's labels by name."""
    return RunConfig(container.config).labels


def status_text(container: Container) -> str:
    """Return the STATUS column; a mounted container is up without running anything."""
    if container.status == "created":
        return "Created"
    if container.running:
        since = time.time_ns() - (container.started_ns or container.created_ns)
        mounted = " (Mounted)" if container.mount_point else ""
        return f"Up {human_duration(since / NS)}{mounted}"
    code = 0 if container.exit_code is None else container.exit_code
    return f"Exited ({code}) {age(container.finished_ns or container.created_ns)}"


def image_text(store: Store, container: Container, *, whole: bool = False) -> str:
    """Return the image's name as it was given, or its id where that name is another's by now."""
    try:
        if store.images.resolve(container.image_name).id == container.image:
            return container.image_name
    except StoreError:
        pass  # the name is gone, and the id is what is left to say
    return str(container.image) if whole else short_id(container.image)
