"""`pyunion run`, `exec`, `start` and `stop`: commands in containers.

Source: docker/cli `cli/command/container/run.go`, `exec.go`, `start.go`, `stop.go`.
Differs from docker: the network is the host's own; an ordinary user is root of a user
namespace.

`run` imports only what it uses itself: its keeper has imported the rest by then.
"""

from __future__ import annotations

import click

from layerstore.errors import Conflict, StoreError
from layerstore.oci.run_config import RunConfig
from mount_tools.cli import framework
from mount_tools.cli.commands.container_flags import (
    ContainerFlags,
    config_of,
    container_flags,
    detach_keys,
    stop_time,
)
from mount_tools.cli.commands.create_cmd import create_container, image_for, refuse_used
from mount_tools.cli.commands.run_status import discard, exit_with, take_stdin
from mount_tools.cli.complete import named
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.session import Session, complain, pass_session, say
from mount_tools.container.detach_keys import parse_keys
from mount_tools.container.handshake import CannotStart
from mount_tools.container.start import (
    exec_detached,
    exec_in_container,
    run_container,
    start_container,
)
from mount_tools.container.user_namespace import be_root


@framework.command(
    "Run a command in a new container",
    "IMAGE [COMMAND] [ARG...]",
    least=1,
    most=None,
    interspersed=False,
    completes=named("image"),
)
@container_flags
@framework.flag("-d", "--detach", says="Run container in background and print container ID")
@framework.flag("--sig-proxy", says="Proxy received signals to the process", default=True)
@detach_keys
@pass_session
def run(
    session: Session,
    /,
    operands: tuple[str, ...],
    detach: bool,
    sig_proxy: bool,
    keys: str,
    **said: object,
) -> None:
    """Exits with the status of the command; with 125 if the container cannot be started, 126 if
    the command cannot be run, and 127 if it does not exist. The container keeps running if
    this command is killed, its terminal is closed, or the detach keys are typed. IMAGE may be
    containers-storage:NAME, an image of podman or buildah; see pyunion-load(1)."""
    flags = ContainerFlags(**said)  # type: ignore[arg-type]  # click made them of its options
    detaching = parse_keys(keys)

    def work() -> int:
        refuse_used(flags.cidfile)
        image = image_for(session, operands[0], flags)
        store = session.store
        be_root()
        if not detach:
            take_stdin(flags.interactive, flags.tty)
        container = create_container(store, image, operands, flags)
        try:
            if not detach:
                return run_container(
                    store,
                    container,
                    session.take_keeper(),
                    stdin=flags.interactive,
                    keys=detaching,
                    signals=sig_proxy,
                )
            start_container(store, container, session.take_keeper(), stdin=flags.interactive)
        except (StoreError, CannotStart):
            if flags.rm:
                discard(store, container)
            raise
        say(container.id)
        return 0

    exit_with(work)


@framework.command(
    "Run a command in a running container",
    "CONTAINER COMMAND [ARG...]",
    least=2,
    most=None,
    interspersed=False,
    completes=named("container"),
)
@framework.texts("-e", "--env", says="Set environment variables")
@framework.text("-w", "--workdir", says="Working directory inside the container")
@framework.text("-u", "--user", says="Username or UID (format: <name|uid>[:<group|gid>])")
@framework.texts("--env-file", says="Read in a file of environment variables")
@framework.flag("-i", "--interactive", says="Keep STDIN open")
@framework.flag("-t", "--tty", says="Allocate a pseudo-TTY")
@framework.flag("-d", "--detach", says="Detached mode: run command in the background")
@detach_keys
@pass_session
def exec_(
    session: Session,
    operands: tuple[str, ...],
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    workdir: str | None,
    user: str | None,
    interactive: bool,
    tty: bool,
    detach: bool,
    keys: str,
) -> None:
    """Exits with the status of the command, which keeps running if `pyunion exec` is killed."""
    from mount_tools.container.pausing import refuse_paused

    name, *command = operands
    container = session.store.containers.resolve(name)
    if not container.runs_command:
        raise Conflict(f"Container {container.id} is not running")
    refuse_paused(session.store, container, "exec")
    flags = ContainerFlags(
        entrypoint="", env=env, env_file=env_file, user=user, workdir=workdir, tty=tty
    )
    config = config_of(container.config, container.image_name, flags, command)
    config["HostConfig"] = container.config.get("HostConfig", {})  # it has the container's rights
    keeper, detaching = session.take_keeper(), parse_keys(keys)
    if not detach:
        take_stdin(interactive, tty)

    def work() -> int:
        if detach:
            exec_detached(container, config, keeper)
            return 0
        return exec_in_container(container, config, keeper, stdin=interactive, keys=detaching)

    exit_with(work)


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
@pass_session
def start(
    session: Session, operands: tuple[str, ...], attach: bool, interactive: bool, keys: str
) -> None:
    detaching = parse_keys(keys)
    store = session.store
    if attach or interactive:
        if len(operands) > 1:
            raise WrongWords("you cannot start and attach multiple containers at once", 1)
        container = store.containers.resolve(operands[0])
        config = RunConfig(container.config)
        take_stdin(interactive, config.tty and interactive)
        keeper = session.take_keeper()
        exit_with(
            lambda: run_container(store, container, keeper, stdin=interactive, keys=detaching)
        )
    failed = []
    for name in operands:
        try:
            container = store.containers.resolve(name)
            if not container.running:
                config = RunConfig(container.config)
                keeper = session.take_keeper()  # the first container gets it
                start_container(store, container, keeper, stdin=config.open_stdin)
            elif container.mount_point is not None:
                from mount_tools.container.mount import refuse_running

                refuse_running(container)
            else:
                from mount_tools.container.pausing import is_paused

                if is_paused(store, container):
                    raise Conflict("cannot start a paused container, try unpause instead")
            say(name)
        except (StoreError, CannotStart) as error:
            complain(str(error))
            failed.append(name)
    if failed:
        complain(f"failed to start containers: {', '.join(failed)}")
        raise click.exceptions.Exit(1)


@framework.command(
    "Stop one or more running containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@stop_time
@pass_session
def stop(session: Session, operands: tuple[str, ...], time: int) -> None:
    """A container that is only mounted is unmounted."""
    from mount_tools.container.mount import unmount_container
    from mount_tools.container.run import stop_container

    def stop_one(name: str) -> None:
        container = session.store.containers.resolve(name)
        if container.mount_point is not None:
            unmount_container(container)
        else:
            stop_container(session.store, container, time if time >= 0 else None)
        say(name)

    session.each(operands, stop_one)
