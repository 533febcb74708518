"""`mount.pyunion IMAGE DIR`: mount an image by its name, without options for its layers.

Decided here and only here: what a mount without lowerdir= means.  Its upper is that of a
container: the one that `-o container=N` names, or a new one that is used only for this mount
and removed when the mount ends; after a crash the next such mount removes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from layerstore.containers.container import Container
from layerstore.errors import Busy, NotFound, StoreError
from layerstore.oci.run_config import of_image
from layerstore.store import Store
from mount_tools.container.mount import serve_container, with_stack
from mount_tools.container.root_options import container_options
from mount_tools.container.running import refuse_running
from mount_tools.daemon.detach import Outcome
from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.option_grammar import OptionError
from unionfs.errors import MountError
from unionfs.light_logging import Logger

log = Logger(__name__)

Serve = Callable[[Callable[[], None], str | None], Outcome]


@contextmanager
def opened_image(spec: str, directory: str, options: MountOptions) -> Iterator[Serve]:
    """Make what a mount of image `spec` needs; yield the function that serves it.

    The caller calls that function in a fork, or in this process.

    Raises MountError or OptionError with a sentence for the user.
    """
    try:
        with Store.open(create=False) as store:
            _sweep(store)
            container, ephemeral = _container_for(store, spec, options.container)
            try:
                with ExitStack() as alone:
                    alone.enter_context(store.containers.lock(container))
                    container = store.containers.get(container.id)
                    refuse_running(container)
                    stack = container_options(store, container)
                    # Without log= it logs to syslog, as every mount that mount(8) makes.
                    mixed = with_stack(options, stack._replace(log=None))
                    serve = _server(store, container, directory, mixed, alone, ephemeral=ephemeral)
                    # After a fork SQLite believes that it has locks which it lost.
                    store.database.close()
                    yield serve
            finally:
                if ephemeral:
                    _remove(store, container)
    except StoreError as error:
        raise MountError(str(error)) from None


def _server(
    store: Store,
    container: Container,
    directory: str,
    options: MountOptions,
    alone: ExitStack,
    *,
    ephemeral: bool,
) -> Serve:
    """Return the function that serves the mount, and drops the lock `alone` once it is live."""
    locker = os.getpid()

    def serve(live: Callable[[], None], namespace: str | None) -> Outcome:
        served = False

        def ready() -> None:
            nonlocal served
            served = True
            # In a fork the lock is not ours; the process that has it waits for us.
            if os.getpid() == locker:
                alone.close()
            live()

        outcome = serve_container(store, container, directory, options, ready, namespace)
        if served and ephemeral:
            _remove(store, container)
        return outcome

    return serve


def _container_for(store: Store, spec: str, name: str | None) -> tuple[Container, bool]:
    """Return the container to mount, and whether it is removed with the mount.

    It is made unless a container of that `name` exists, whose image must be `spec`.
    """
    image = store.images.resolve(spec)
    # Only the user, never an image, decides what a container sees of the host.
    config = of_image(store.images.config(image).config)
    if name is None:
        made = store.containers.create(image, image_name=spec, config=config, auto_remove=True)
        return made, True
    try:
        container = store.containers.resolve(name)
    except NotFound:
        made = store.containers.create(image, name=name, image_name=spec, config=config)
        return made, False
    if container.image != image.id:
        raise OptionError(
            f"container={name} is of the image {container.image_name}, not of {spec}; "
            "name another container, or that image"
        )
    return container, False


def _sweep(store: Store) -> None:
    """Remove the containers that were made for a mount alone and have outlived it."""
    for container in store.containers.list():
        if container.auto_remove and container.status == "exited":
            try:
                with store.containers.lock(container, wait=False):
                    pass
            except (Busy, NotFound):
                continue
            _remove(store, container)


def _remove(store: Store, container: Container) -> None:
    """Remove the container unless it runs or is gone already."""
    try:
        container = store.containers.get(container.id)
        if not container.running:
            store.containers.remove(container)
    except NotFound:
        return
    except (StoreError, OSError) as error:
        log.warning("the container %s of this mount stays: %s", container.short, error)
