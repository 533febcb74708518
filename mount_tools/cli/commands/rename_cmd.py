"""`pyunion rename`.

Source: docker/cli `cli/command/container/rename.go`.
"""

from __future__ import annotations

from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation


@framework.command(
    "Rename a container",
    "CONTAINER NEW_NAME",
    least=2,
    most=2,
    completes=named("container", last=0),
)
def rename(invocation: Invocation, operands: tuple[str, ...]) -> None:
    containers = invocation.store.containers
    containers.rename(containers.resolve(operands[0]), operands[1])
