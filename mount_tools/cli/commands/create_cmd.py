"""`pyunion create`: a container that is ready to be started or mounted.

Differs from docker: an image without a command is accepted; its container can be mounted.
"""

from __future__ import annotations

from layerstore.containers.containers import Container
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands.container_flags import ContainerFlags, config_of, container_flags
from mount_tools.cli.complete import named
from mount_tools.cli.session import Session, pass_session, say


@framework.command(
    "Create a new container",
    "IMAGE [COMMAND] [ARG...]",
    least=1,
    most=None,
    interspersed=False,
    completes=named("image"),
)
@container_flags
@pass_session
def create(session: Session, /, operands: tuple[str, ...], **said: object) -> None:
    said_flags = ContainerFlags(**said)  # type: ignore[arg-type]  # click made them of its options
    say(create_container(session.store, operands, said_flags, runs=False).id)


def create_container(
    store: Store,
    operands: tuple[str, ...],
    flags: ContainerFlags,
    *,
    auto_remove: bool = False,
    runs: bool = True,
) -> Container:
    """Make the container that a command line asks for; raises StoreError, WrongWords."""
    image_name, *command = operands
    image = store.images.resolve(image_name)
    config = config_of(store.images.config(image).config, image_name, flags, command, runs=runs)
    return store.containers.create(
        image, name=flags.name, image_name=image_name, config=config, auto_remove=auto_remove
    )
