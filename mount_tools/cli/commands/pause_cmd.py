"""`pyunion pause` and `unpause`.

Source: docker/cli `cli/command/container/pause.go`, `unpause.go`; moby `daemon/pause.go`.
Differs from docker: where no control group can be made, the processes are stopped by signals,
and a note says so.
"""

from __future__ import annotations

from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, note, say
from mount_tools.container import pausing


@framework.command(
    "Pause all processes within one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
def pause(invocation: Invocation, operands: tuple[str, ...]) -> None:
    """The processes are frozen by a control group, if one can be made. Otherwise they get
    SIGSTOP, which a shell in the container may notice, and a note on stderr says why."""

    def pause_one(name: str) -> None:
        reason = pausing.pause(invocation.store.containers.resolve(name))
        say(name)
        if reason is not None:
            note(f"{name} is paused by SIGSTOP, which its processes can notice: {reason}")

    invocation.each(operands, pause_one)


@framework.command(
    "Unpause all processes within one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
def unpause(invocation: Invocation, operands: tuple[str, ...]) -> None:
    def unpause_one(name: str) -> None:
        pausing.unpause(invocation.store.containers.resolve(name))
        say(name)

    invocation.each(operands, unpause_one)
