"""`pyunion rm`: remove containers."""

from __future__ import annotations

from layerstore.errors import Conflict, NotFound
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.session import Session, pass_session, say
from mount_tools.container.cgroup import release
from mount_tools.container.pausing import is_paused
from mount_tools.container.run import end_container


@framework.command(
    "Remove one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@framework.flag("-f", "--force", says="Force the removal of a running container (uses SIGKILL)")
@framework.flag("-v", "--volumes", says="Remove anonymous volumes associated with the container")
@pass_session
def rm(session: Session, operands: tuple[str, ...], force: bool, volumes: bool) -> None:
    containers = session.store.containers

    def remove(name: str) -> None:
        container = containers.resolve(name)
        if force and container.running:
            end_container(session.store, container)
        elif is_paused(session.store, container):
            raise Conflict(
                f"You cannot remove a paused container {container.id}. Unpause and then stop the "
                "container before attempting removal or force remove"
            )
        container = containers.resolve(name)
        if not container.running:
            release(containers.directory(container))
        containers.remove(container, volumes=volumes)
        say(name)

    session.each(operands, remove, harmless=(NotFound,) if force else ())
