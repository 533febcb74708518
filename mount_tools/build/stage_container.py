"""The containers of stages: made for a build, and removed with it.

Decided here and only here: how such a container is recognized.  Its name begins with
`build-`, and it has `auto_remove`.  If a step fails, its container loses `auto_remove`, so
that the user can look into it.

Threading: any thread.
"""

from __future__ import annotations

import os

from layerstore.containers.containers import Container
from layerstore.errors import StoreError
from layerstore.oci.digest import Digest
from layerstore.oci.documents import Object
from layerstore.store import Store

NAME = "build-"


def sweep(store: Store) -> None:
    """Remove the containers that killed builders have left."""
    for container in store.containers.list():
        if container.name.startswith(NAME) and container.auto_remove and not container.running:
            try:
                with store.containers.lock(container, wait=False):
                    pass
                store.containers.remove(container)
            except StoreError:
                continue  # another builder has it


def new_container(
    store: Store, base: Digest | None, image: Digest, image_name: str, config: Object
) -> Container:
    """Make the container of a stage over the layers of the chain `base`."""
    name = NAME + os.urandom(5).hex()
    return store.containers.create_on(
        base, name=name, image=image, image_name=image_name, config=config
    )
