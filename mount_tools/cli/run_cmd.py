"""`pyunion run`, `exec`, `start` and `stop`: commands in containers.

Source: docker/cli `cli/command/container/run.go`, `exec.go`, `start.go`, `stop.go`.
Differs from docker: the network is the host's own; a terminal is used where there is one,
and -i and -t say nothing more.
"""

from __future__ import annotations

from layerstore.errors import Conflict
from mount_tools.cli import words
from mount_tools.cli.complete import named
from mount_tools.cli.container_flags import ContainerFlags, container_flags
from mount_tools.cli.create_cmd import create_container
from mount_tools.cli.run_words import exit_with
from mount_tools.cli.session import Session, pass_session, say
from mount_tools.container_mount import refuse_running
from mount_tools.run import (
    exec_in_container,
    launch_of,
    run_container,
    start_container,
    stop_container,
)


@words.command(
    "Create and run a new container from an image",
    "IMAGE [COMMAND] [ARG...]",
    least=1,
    most=None,
    interspersed=False,
    completes=named("image"),
)
@container_flags
@words.flag("--rm", says="Automatically remove the container when it exits")
@words.flag("-d", "--detach", says="Run container in background and print container ID")
@pass_session
def run(
    session: Session, /, operands: tuple[str, ...], rm: bool, detach: bool, **said: object
) -> None:
    flags = ContainerFlags(**said)  # type: ignore[arg-type]  # click made them of its options

    def work() -> int:
        store = session.store
        container = create_container(store, operands, flags, auto_remove=rm)
        launch = launch_of(container.config)
        if detach:
            start_container(store, container, launch)
            say(container.id)
            return 0
        try:
            return run_container(store, container, launch)
        finally:
            if rm:
                store.containers.remove(store.containers.get(container.id))

    exit_with(work)


@words.command(
    "Execute a command in a running container",
    "CONTAINER COMMAND [ARG...]",
    least=2,
    most=None,
    interspersed=False,
    completes=named("container"),
)
@words.texts("-e", "--env", says="Set environment variables")
@words.text("-w", "--workdir", says="Working directory inside the container")
@words.text("-u", "--user", says="Username or UID (format: <name|uid>[:<group|gid>])")
@words.flag("-i", "--interactive", says="Accepted: stdin is the command's in any case")
@words.flag("-t", "--tty", says="Accepted: a terminal is the command's in any case")
@pass_session
def exec_(
    session: Session,
    operands: tuple[str, ...],
    env: tuple[str, ...],
    workdir: str | None,
    user: str | None,
    interactive: bool,
    tty: bool,
) -> None:
    name, *command = operands

    def work() -> int:
        container = session.store.containers.resolve(name)
        launch = launch_of(container.config)
        launch = launch._replace(
            words=tuple(command),
            environment=(*launch.environment, *env),
            directory=workdir or launch.directory,
            user=launch.user if user is None else user,
        )
        return exec_in_container(container, launch)

    exit_with(work)


@words.command(
    "Start one or more stopped containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@words.flag("-a", "--attach", says="Wait for it, and exit as it does")
@pass_session
def start(session: Session, operands: tuple[str, ...], attach: bool) -> None:
    store = session.store
    if attach and len(operands) > 1:
        raise Conflict("you cannot start and attach multiple containers at once")
    if attach:
        container = store.containers.resolve(operands[0])
        exit_with(lambda: run_container(store, container, launch_of(container.config)))

    def start_one(name: str) -> None:
        container = store.containers.resolve(name)
        if not container.running:
            start_container(store, container, launch_of(container.config))
        elif container.mount_point is not None:
            refuse_running(container)
        say(name)

    session.each(operands, start_one)


@words.command(
    "Stop one or more running containers",
    "CONTAINER [CONTAINER...]",
    least=1,
    most=None,
    completes=named("container"),
)
@words.number("-t", "--time", says="Seconds to wait before killing the container", default=10)
@pass_session
def stop(session: Session, operands: tuple[str, ...], time: int) -> None:
    def stop_one(name: str) -> None:
        container = session.store.containers.resolve(name)
        if container.mount_point is not None:
            refuse_running(container)
        stop_container(session.store, container, max(0, time))
        say(name)

    session.each(operands, stop_one)
