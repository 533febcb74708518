"""`pyunion mount` and `pyunion umount`: a container's tree on a directory of the host."""

from __future__ import annotations

from layerstore.errors import StoreError
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.session import Session, pass_session, say
from mount_tools.container.mount import mount_container, unmount_container


@framework.command(
    "Mount a container's filesystem on a directory",
    "CONTAINER DIRECTORY",
    least=2,
    most=2,
    completes=named("container"),
)
@pass_session
def mount(session: Session, operands: tuple[str, ...]) -> None:
    name, directory = operands
    mount_container(session.store, session.store.containers.resolve(name), directory)


@framework.command(
    "Unmount one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@pass_session
def umount(session: Session, operands: tuple[str, ...]) -> None:
    containers = session.store.containers

    def unmount(name: str) -> None:
        try:
            container = containers.resolve(name)
        except StoreError:
            mounted = [c for c in containers.list() if c.mount_point == name]
            if not mounted:
                raise
            container = mounted[0]
        unmount_container(container)
        say(name)

    session.each(operands, unmount)
