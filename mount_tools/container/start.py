"""Start containers and show them: the part of the command, which forks a keeper for each.

    start_container    have a keeper run the container; return once its command runs
    run_container      the same, and view it until it ends
    attach_container   view one that runs
    exec_detached      have a keeper run one more command in a running container
    exec_in_container  the same, and view it until it ends

`run` and `exec` are the parts of the keeper.  What it needs is not imported here.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
from contextlib import suppress

from layerstore.containers.container import Container
from layerstore.db.container_table import KILLED
from layerstore.errors import NotFound, StoreError
from layerstore.oci.json_values import Object
from layerstore.oci.run_config import RunConfig
from layerstore.store import Store
from mount_tools.container.attach_messages import Watch, connect
from mount_tools.container.keeper_process import (
    EXEC,
    RUN,
    ExecOrder,
    PreparedKeeper,
    RunOrder,
)
from mount_tools.container.signals import held
from mount_tools.container.terminal import size_of_ours
from mount_tools.container.viewer import PassedOn, Viewer, view_new
from unionfs import light_socket as socket


def run_container(
    store: Store,
    container: Container,
    passed_on: PassedOn,
    keeper: PreparedKeeper | None = None,
    *,
    transport: str = "auto",
) -> int:
    """Run the container and show it here until it ends; return the exit status of its command.

    That is 0 if the user leaves it running by the keys of `passed_on`.  `keeper` is forked here
    if it is None.  Raises CannotStart with the status to end with if the command cannot be run,
    and StoreError.
    """

    def leave(viewer: socket.socket) -> None:
        _leave(store, container, keeper, viewer, stdin=passed_on.stdin, transport=transport)
        # The last process to close the database waits for the disk.  Now that is the keeper.
        store.database.let_go()

    return view_new(
        leave,
        lambda: _status_in(store, container),
        passed_on,
        terminal=RunConfig(container.config).tty,
    )


def start_container(
    store: Store, container: Container, keeper: PreparedKeeper | None = None, *, stdin: bool = False
) -> None:
    """Run the container in the background; return once its command runs.

    With `stdin` its stdin stays open, for viewers to come.  Raises CannotStart, and StoreError.
    """
    _leave(store, container, keeper, None, stdin=stdin)


def attach_container(store: Store, container: Container, passed_on: PassedOn) -> int:
    """Show a running container here until it ends; return the exit status of its command.

    Raises StoreError if no process keeps it; Busy if that was stopped, or hangs.
    """
    # `run` does not need these.
    from mount_tools.container.entrance import answers
    from mount_tools.container.silent_keeper import refuse_stopped

    refuse_stopped(container)
    connection = connect(container.directory, Watch(output=True)) if answers(container) else None
    if connection is None:
        raise StoreError(f"container {container.name} is not running: start it first")
    terminal = RunConfig(container.config).tty
    with held(), Viewer(connection, passed_on, terminal=terminal) as viewer:
        viewer.redraw()
        return viewer.status(lambda: _status_in(store, container))


def _status_in(store: Store, container: Container) -> int:
    """Return the exit status that the store has for a container whose keeper was killed."""
    with suppress(NotFound):
        code = store.containers.get(container.id).exit_code
        if code is not None:
            return code
    return KILLED


def _leave(
    store: Store,
    container: Container,
    keeper: PreparedKeeper | None,
    viewer: socket.socket | None,
    *,
    stdin: bool,
    transport: str = "auto",
) -> None:
    """Leave a keeper behind, connected to `viewer`, once the command runs."""
    order = RunOrder(
        os.fspath(store.root),
        store.durability.sync,
        container.id,
        transport,
        stdin,
        size_of_ours(),
    )
    (keeper or PreparedKeeper(RUN)).keep(order, viewer, f"container {container.name}")


def exec_in_container(
    store: Store,
    container: Container,
    config: Object,
    passed_on: PassedOn,
    keeper: PreparedKeeper | None = None,
) -> int:
    """Run one more command, that of `config`, in a running container, and show it here.

    Returns its exit status, which is 0 if the user leaves it running by the keys of `passed_on`.
    Raises CannotStart, and StoreError.
    """
    _await_entry(container)
    return view_new(
        lambda viewer: _leave_exec(store, container, config, keeper, viewer, stdin=passed_on.stdin),
        lambda: KILLED,
        passed_on,
        terminal=RunConfig(config).tty,
    )


def exec_detached(
    store: Store, container: Container, config: Object, keeper: PreparedKeeper | None = None
) -> None:
    """Run one more command in a running container, in the background; return once it runs.

    Raises CannotStart, and StoreError.
    """
    _await_entry(container)
    _leave_exec(store, container, config, keeper, None, stdin=False)


def _await_entry(container: Container) -> None:
    """Wait until a command can enter the container.  A signal may end this wait."""
    if container.init is None:
        raise StoreError(f"container {container.id} is not running")
    from mount_tools.container.entrance import wait_until_entered  # `run` does not need it

    wait_until_entered(container)


def _leave_exec(
    store: Store,
    container: Container,
    config: Object,
    keeper: PreparedKeeper | None,
    viewer: socket.socket | None,
    *,
    stdin: bool,
) -> None:
    from mount_tools.container.entrance import first_process  # `run` does not need it

    root, init = os.fspath(store.root), first_process(container)
    order = ExecOrder(root, container.id, init, config, stdin, size_of_ours())
    (keeper or PreparedKeeper(EXEC)).keep(order, viewer, "the command")
