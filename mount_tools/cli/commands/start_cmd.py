"""`pyunion start`: the command of a container that is there, once more.

Source: docker/cli `cli/command/container/start.go`.
"""

from __future__ import annotations

from layerstore.containers.container import Container
from layerstore.errors import Conflict, StoreError
from layerstore.oci.run_config import RunConfig
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands.run_status import exit_with, take_stdin
from mount_tools.cli.commands.shared_flags import detach_keys
from mount_tools.cli.complete import named
from mount_tools.cli.errors import Exit, WrongWords
from mount_tools.cli.invocation import Invocation, complain, say
from mount_tools.container.detach_keys import parse_keys
from mount_tools.container.handshake import CannotStart
from mount_tools.container.start import attach_container, run_container, start_container
from mount_tools.container.viewer import PassedOn


@framework.command(
    "Start one or more stopped containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@framework.flag("-a", "--attach", says="Attach STDOUT/STDERR and forward signals")
@framework.flag("-i", "--interactive", says="Attach container's STDIN")
@detach_keys
def start(
    invocation: Invocation, operands: tuple[str, ...], attach: bool, interactive: bool, keys: str
) -> None:
    passed_on = PassedOn(interactive, parse_keys(keys))
    store = invocation.store
    invocation.protect_all(operands)
    if attach or interactive:
        if len(operands) > 1:
            raise WrongWords("you cannot start and attach multiple containers at once", 1)
        container = store.containers.resolve(operands[0])
        take_stdin(interactive, RunConfig(container.config).tty and interactive)
        if container.runs_command:
            exit_with(lambda: _attach(store, container, passed_on))
        keeper = invocation.take_keeper()
        exit_with(lambda: run_container(store, container, passed_on, keeper))
    failed = []
    for name in operands:
        try:
            container = store.containers.resolve(name)
            if container.mount_point is not None:
                from mount_tools.container.running import refuse_running

                refuse_running(container)  # unless that mount has just ended
            if container.runs_command:
                _refuse_paused(container)
            else:
                config = RunConfig(container.config)
                keeper = invocation.take_keeper()  # the first container gets it
                start_container(store, container, keeper, stdin=config.open_stdin)
            say(name)
        except (StoreError, CannotStart) as error:
            complain(str(error))
            failed.append(name)
    if failed:
        complain(f"failed to start containers: {', '.join(failed)}")
        raise Exit(1)


def _attach(store: Store, container: Container, passed_on: PassedOn) -> int:
    """Show a container that runs already, as docker does."""
    _refuse_paused(container)
    stdin = passed_on.stdin and RunConfig(container.config).open_stdin
    return attach_container(store, container, passed_on._replace(stdin=stdin))


def _refuse_paused(container: Container) -> None:
    from mount_tools.container.pausing import is_paused

    if is_paused(container):
        raise Conflict("cannot start a paused container, try unpause instead")
