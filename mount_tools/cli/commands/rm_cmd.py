"""`pyunion rm`: remove containers."""

from __future__ import annotations

from layerstore.errors import NotFound
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.session import Session, pass_session, say
from mount_tools.container.run import end_container


@framework.command(
    "Remove one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@framework.flag("-f", "--force", says="Force the removal of a running container (uses SIGKILL)")
@framework.flag("-v", "--volumes", says="Accepted without effect: there are no volumes")
@pass_session
def rm(session: Session, operands: tuple[str, ...], force: bool, volumes: bool) -> None:
    containers = session.store.containers

    def remove(name: str) -> None:
        container = containers.resolve(name)
        if force and container.running:
            end_container(session.store, container)
        containers.remove(containers.resolve(name))
        say(name)

    session.each(operands, remove, harmless=(NotFound,) if force else ())
