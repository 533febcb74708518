"""`pyunion create`: a container that is ready to be started or mounted.

Differs from docker: an image without a command is accepted; its container can be mounted.
"""

from __future__ import annotations

import os
from pathlib import Path

from layerstore.containers.containers import Container
from layerstore.errors import Conflict
from layerstore.images.images import Image
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands.container_flags import ContainerFlags, config_of, container_flags
from mount_tools.cli.commands.pull_cmd import image_to_run
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
    refuse_used(said_flags.cidfile)
    image = image_to_run(session, operands[0], said_flags.pull, quiet=said_flags.quiet)
    say(create_container(session.store, image, operands, said_flags, runs=False).id)


def create_container(
    store: Store,
    image: Image,
    operands: tuple[str, ...],
    flags: ContainerFlags,
    *,
    runs: bool = True,
) -> Container:
    """Make a container of `image` with the flags of a command line.

    Raises StoreError, WrongWords.
    """
    image_name, *command = operands
    config = config_of(store.images.config(image).config, image_name, flags, command, runs=runs)
    container = store.containers.create(
        image, name=flags.name, image_name=image_name, config=config, auto_remove=flags.rm
    )
    if flags.cidfile:
        Path(flags.cidfile).write_text(container.id)
    return container


def refuse_used(cidfile: str | None) -> None:
    """Raise Conflict if the file of `--cidfile` exists."""
    if cidfile and os.path.exists(cidfile):
        raise Conflict(
            "Container ID file found, make sure the other container isn't running or delete "
            f"{cidfile}"
        )
