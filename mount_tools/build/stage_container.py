"""The containers of stages: made for a build, and removed with it.

Decided here and only here: how such a container is recognized.  Its name begins with
`build-`, it has `auto_remove`, and no configuration, which every other container has.  If a
step fails, its container loses `auto_remove`, so that the user can look into it.

Threading: any thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from layerstore.containers.container import Container
from layerstore.errors import Busy, StoreError
from layerstore.oci.digest import Digest
from layerstore.oci.documents import Object
from layerstore.store import Store

NAME = "build-"
SECONDS_TO_RECORD = 60.0
"""How long a build waits for the packer of a killed one to record what was done.

A large layer takes its time to hash and to reach the disk, and as a rule longer to be made again.
"""
_SECONDS_TO_SAY = 1.0
_PAUSE = 0.02


def sweep(store: Store, note: Callable[[str], None] = lambda _: None) -> None:
    """Remove the containers that killed builders have left; `note` shows a sentence to the user.

    If the stage's process of such a builder has not ended yet, or its packer still records what
    was done, this waits for them, so that the build that begins finds these steps.
    """
    start = time.monotonic()
    said = False
    for container in store.containers.list():
        if container.name.startswith(NAME) and container.auto_remove and not container.config:
            with suppress(StoreError):  # another process has it, or has removed it
                while _is_left(store, container.id):
                    if _is_free(store, container):
                        store.containers.remove(container)
                        break
                    waited = time.monotonic() - start
                    if waited > SECONDS_TO_RECORD:
                        break
                    if waited > _SECONDS_TO_SAY and not said:
                        note("Waiting for what a killed build had done to be recorded")
                        said = True
                    time.sleep(_PAUSE)


def _is_left(store: Store, container_id: str) -> bool:
    """Tell whether the builder that made the container is dead."""
    # A builder holds its leases until it ends.
    made = (one for one in store.leases.all() if one.kind == "container")
    return not any(one.key == container_id and one.holder.alive() for one in made)


def _is_free(store: Store, container: Container) -> bool:
    """Tell whether the stage's process and its packer have ended; raises NoSuchContainer."""
    if store.containers.get(container.id).running:
        return False  # the stage's process ends with its builder, but after all that it started
    try:
        with store.containers.lock(container, wait=False):
            return True
    except Busy:
        return False


def new_container(
    store: Store, base: Digest | None, image: Digest, image_name: str, config: Object
) -> Container:
    """Make the container of a stage over the layers of the chain `base`."""
    name = NAME + os.urandom(5).hex()
    return store.containers.create_on(
        base, name=name, image=image, image_name=image_name, config=config
    )
