"""An image that podman or buildah has, taken from their store by its containers-storage: name."""

from __future__ import annotations

from collections.abc import Callable

from layerstore.archive.engine_store import (
    EngineImage,
    EngineStore,
    find_in_engine,
    load_from_engine,
)
from layerstore.archive.load import Loaded
from mount_tools.cli.invocation import Invocation
from mount_tools.cli.output.progress import reported
from mount_tools.container.user_namespace import read_all

Find = Callable[[str], tuple[EngineStore, EngineImage]]


def load_engine_image(
    invocation: Invocation, text: str, *, quiet: bool, find: Find | None = None
) -> list[Loaded]:
    """Bring the image into the store; an ordinary user is in the user namespace from then on.

    One who is there already has a `find` that looks outside of it.
    """
    store = invocation.store_to_fill
    found = (find or find_in_engine)(text)
    read_all()
    with reported(quiet=quiet) as report:
        return load_from_engine(store, found, report=report)
