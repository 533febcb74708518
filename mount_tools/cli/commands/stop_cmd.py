"""`pyunion stop`: end containers.

Source: docker/cli `cli/command/container/stop.go`.
"""

from __future__ import annotations

from mount_tools.cli import framework
from mount_tools.cli.commands.shared_flags import stop_time
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say


@framework.command(
    "Stop one or more running containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@stop_time
def stop(invocation: Invocation, operands: tuple[str, ...], time: int) -> None:
    """A container that is only mounted is unmounted."""
    from mount_tools.container.mount import unmount_container
    from mount_tools.container.stopping import stop_container

    def stop_one(name: str) -> None:
        container = invocation.store.containers.resolve(name)
        if container.mount_point is not None:
            unmount_container(container)
        else:
            stop_container(invocation.store, container, time if time >= 0 else None)
        say(name)

    invocation.each(operands, stop_one)
