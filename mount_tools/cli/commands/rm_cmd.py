"""`pyunion rm`: remove containers."""

from __future__ import annotations

from contextlib import suppress

from layerstore.errors import Conflict, NotFound, StoreError
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.container.cgroup import release
from mount_tools.container.pausing import is_paused
from mount_tools.container.user_namespace import read_all


@framework.command(
    "Remove one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@framework.flag("-f", "--force", says="Force the removal of a running container (uses SIGKILL)")
@framework.flag("-v", "--volumes", says="Remove anonymous volumes associated with the container")
def rm(invocation: Invocation, operands: tuple[str, ...], force: bool, volumes: bool) -> None:
    containers = invocation.store.containers
    going = _end(invocation.store, operands) if force else set()
    read_all()  # the files may belong to sub-ids

    def remove(name: str) -> None:
        try:
            remove_one(name)
        except NotFound:
            if name not in going:
                raise
        say(name)

    def remove_one(name: str) -> None:
        container = containers.resolve(name)
        if is_paused(container):
            raise Conflict(
                f"You cannot remove a paused container {container.id}. Unpause and then stop the "
                "container before attempting removal or force remove"
            )
        container = containers.resolve(name)
        if not container.running:
            release(container.directory)
        containers.remove(container, volumes=volumes)

    invocation.each(operands, remove, harmless=(NotFound,) if force else ())


def _end(store: Store, names: tuple[str, ...]) -> set[str]:
    """End those that run, which is not possible from a user namespace that was entered.

    If one cannot be ended, its removal reports that.  Returns the names of those whose keepers
    remove them, as `run --rm` asks.
    """
    from mount_tools.container.stopping import end_container  # not for one that has ended

    going = set()
    for name in names:
        with suppress(StoreError):
            container = store.containers.resolve(name)
            if container.running:
                if container.auto_remove:
                    going.add(name)
                end_container(store, container)
    return going
