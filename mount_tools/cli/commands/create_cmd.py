"""`pyunion create`: a container that is ready to be started or mounted.

Differs from docker: an image without a command is accepted; its container can be mounted.
"""

from __future__ import annotations

from mount_tools.cli import framework, id_file
from mount_tools.cli.commands.container_flags import ContainerFlags, container_flags
from mount_tools.cli.commands.new_container import create_container, image_for
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.container.user_namespace import read_all


@framework.command(
    "Create a new container",
    "IMAGE [COMMAND] [ARG...]",
    least=1,
    most=None,
    interspersed=False,
    completes=named("image"),
)
@container_flags
@framework.as_one(ContainerFlags)
def create(invocation: Invocation, operands: tuple[str, ...], flags: ContainerFlags) -> None:
    id_file.refuse_used(flags.cidfile)
    image = image_for(invocation, operands[0], flags)
    read_all()  # to copy files of any mode to volumes
    say(create_container(invocation.store, image, operands, flags, runs=False).id)
