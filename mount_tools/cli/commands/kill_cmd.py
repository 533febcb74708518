"""`pyunion kill` and `restart`.

Source: docker/cli `cli/command/container/kill.go`, `restart.go`.
"""

from __future__ import annotations

import signal

from layerstore.errors import Conflict, StoreError
from layerstore.oci.run_config import RunConfig
from mount_tools.cli import framework
from mount_tools.cli.commands.shared_flags import stop_time
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.container.handshake import CannotStart
from mount_tools.container.pausing import resume
from mount_tools.container.running import refuse_running
from mount_tools.container.signals import find_signal, signal_number
from mount_tools.container.start import start_container
from mount_tools.container.stopping import stop_container


@framework.command(
    "Kill one or more running containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@framework.text("-s", "--signal", says="Signal to send to the container", default="KILL")
def kill(invocation: Invocation, operands: tuple[str, ...], signal: str) -> None:
    number = find_signal(signal)
    if number is None:
        raise StoreError(f"Invalid signal: {signal}: give a name as TERM, or a number")

    store = invocation.store

    def kill_one(name: str) -> None:
        container = store.containers.resolve(name)
        ended = Conflict(f"Cannot kill container: {name}: Container {container.id} is not running")
        if container.init is None or container.process is None:
            raise ended
        if number == _KILL:
            stop_container(store, container, 0)
        else:
            try:
                container.process.send(number)
            except ProcessLookupError:
                raise ended from None
            if number == signal_number(RunConfig(container.config).stop_signal):
                resume(container)
        say(name)

    invocation.each(operands, kill_one)


_KILL = signal.SIGKILL


@framework.command(
    "Restart one or more containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@stop_time
def restart(invocation: Invocation, operands: tuple[str, ...], time: int) -> None:
    store = invocation.store
    invocation.protect_all(operands)

    def restart_one(name: str) -> None:
        container = store.containers.resolve(name)
        if container.mount_point is not None:
            refuse_running(container)
        stop_container(store, container, time if time >= 0 else None)
        config = RunConfig(container.config)
        try:
            # The first container gets the keeper that is there.
            start_container(store, container, invocation.take_keeper(), stdin=config.open_stdin)
        except CannotStart as error:
            raise StoreError(str(error)) from None
        say(name)

    invocation.each(operands, restart_one)
