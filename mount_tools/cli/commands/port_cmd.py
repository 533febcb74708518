"""`pyunion port`: the ports that a running container publishes.

Source: docker/cli `cli/command/container/port.go`.
"""

from __future__ import annotations

from layerstore.errors import StoreError, shown
from mount_tools.cli import framework
from mount_tools.cli.commands.ps_cmd import open_ports
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say


@framework.command(
    "List the ports that a container publishes",
    "CONTAINER [PORT[/PROTOCOL]]",
    least=1,
    most=2,
    completes=named("container", last=0),
)
def port(invocation: Invocation, operands: tuple[str, ...]) -> None:
    """A container has the ports of the host, so each is itself; those that were named with
    --publish are listed, whether or not a program listens on them."""
    container = invocation.store.containers.resolve(operands[0])
    lines = {
        f"{number}/{one.protocol}": [f"{address}:{number}" for address in one.addresses]
        for one in open_ports(container)
        for number in range(one.first, one.last + 1)
    }
    if len(operands) == 1:
        for name, places in lines.items():
            for place in places:
                say(f"{name} -> {place}")
        return
    asked = operands[1] if "/" in operands[1] else f"{operands[1]}/tcp"
    if asked not in lines:
        raise StoreError(f"No public port '{shown(asked)}' published for {container.name}")
    say("\n".join(lines[asked]))
