"""`pyunion attach` and `wait`: connect to a running container, and wait for its end.

Source: docker/cli `cli/command/container/attach.go`, `wait.go`.
"""

from __future__ import annotations

from layerstore.errors import Conflict
from layerstore.oci.run_config import RunConfig
from mount_tools.cli import framework
from mount_tools.cli.commands.run_status import exit_with
from mount_tools.cli.commands.shared_flags import detach_keys
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.container.detach_keys import parse_keys
from mount_tools.container.following import wait_for_command
from mount_tools.container.pausing import is_paused
from mount_tools.container.start import attach_container
from mount_tools.container.viewer import PassedOn


@framework.command(
    "Attach local standard input, output, and error streams to a running container",
    "CONTAINER",
    least=1,
    most=1,
    completes=named("container"),
)
@detach_keys
@framework.flag("--no-stdin", says="Do not attach STDIN")
@framework.flag("--sig-proxy", says="Proxy all received signals to the process", default=True)
def attach(
    invocation: Invocation, operands: tuple[str, ...], keys: str, no_stdin: bool, sig_proxy: bool
) -> None:
    """Exits with the status of the container's command."""
    store = invocation.store
    container = store.containers.resolve(operands[0])
    if not container.runs_command:
        raise Conflict("You cannot attach to a stopped container, start it first")
    if is_paused(container):
        raise Conflict("You cannot attach to a paused container, unpause it first")
    stdin = RunConfig(container.config).open_stdin and not no_stdin
    passed_on = PassedOn(stdin, parse_keys(keys), sig_proxy)
    exit_with(lambda: attach_container(store, container, passed_on))


@framework.command(
    "Block until one or more containers stop, then print their exit codes",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
def wait(invocation: Invocation, operands: tuple[str, ...]) -> None:
    store = invocation.store
    invocation.each(
        operands,
        lambda name: say(str(wait_for_command(store, store.containers.resolve(name)))),
    )
