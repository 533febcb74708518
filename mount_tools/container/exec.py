"""exec: run one more command in a running container.

This is the part of the keeper; `start` is that of the command.

Decided here and only here: which of the container's namespaces it enters, and that its root
is the container's.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from layerstore.db.processes import way_in
from layerstore.errors import StoreError
from layerstore.oci.run_config import RunConfig
from mount_tools.container.cgroup import OURSELVES, enter, group_of
from mount_tools.container.handshake import Channel, Silence, Terminal
from mount_tools.container.keeper import Keeper
from mount_tools.container.keeper_process import ExecOrder
from mount_tools.container.process import Launch, become_on, launch_of, restrict
from mount_tools.container.program import own_interpreter
from mount_tools.container.signals import held
from mount_tools.container.started import Started, begin, end_started, silence_text
from mount_tools.container.streams import Streams, of_terminal, streams_for
from mount_tools.container.sub_ids import remember
from mount_tools.container.terminal import Size, open_terminal
from mount_tools.daemon.report import Reporter
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    chroot_to,
    hide_from_others,
    setns,
)

if TYPE_CHECKING:
    from typing import NoReturn

_NAMESPACES = {
    "user": CLONE_NEWUSER,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "net": CLONE_NEWNET,
    "pid_for_children": CLONE_NEWPID,
    "mnt": CLONE_NEWNS,
}


class _Inside(NamedTuple):
    """What the command enters: the namespaces of `process`, and the container's control group."""

    process: int
    group: Path | None


def keep(order: ExecOrder, viewer: socket.socket | None, reporter: Reporter) -> None:
    """Be the keeper of a command in a running container, to its end."""
    own_interpreter()
    remember()
    launch = launch_of(RunConfig(order.config), order.root)
    inside = _Inside(way_in(order.init), group_of(order.init))
    with held():
        child, streams = _start(inside, launch, order.size, stdin=order.stdin)
        keeper = Keeper(streams, first=viewer)
        code = None
        try:
            code = keeper.keep(Started(child, child), reporter)
        finally:
            keeper.close(code)


def _start(
    inside: _Inside, launch: Launch, size: Size | None, *, stdin: bool
) -> tuple[int, Streams]:
    """Start a command in the container `inside`; return its pid."""
    try:
        namespaces, root = _way(inside.process)
    except FileNotFoundError:
        raise StoreError("the container has ended") from None
    streams, ends = streams_for(launch, stdin=stdin)
    # The command's process is visible in the container before it has dropped its rights.
    hide_from_others()
    _enter_for_children(namespaces)

    def work(parent: int, to: Channel) -> NoReturn:
        if inside.group is not None:
            enter(inside.group, OURSELVES)
        slave = _enter(namespaces, root, launch, size, to)
        restrict(launch.rights)
        become_on(slave, launch, parent, to)

    child, ours = begin(ends, work)
    try:
        for fd in (root, *namespaces.values()):
            os.close(fd)
        if launch.terminal:
            streams = of_terminal(ours.expect(Terminal).fd)
        ours.wait_for_execve(child)
    except Silence:
        raise StoreError(silence_text("the process of exec", end_started(child))) from None
    except BaseException:
        end_started(child)
        raise
    finally:
        ours.close()
    return child, streams


def _way(inside: int) -> tuple[dict[str, int], int]:
    """Return the namespaces of `inside` that are not ours, and its root, all open.

    They are found by our own /proc, which is out of reach later.
    """
    namespaces = {
        name: os.open(f"/proc/{inside}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        for name in _NAMESPACES
    }
    for name in ("user", "net"):
        if os.path.samestat(os.fstat(namespaces[name]), os.stat(f"/proc/self/ns/{name}")):
            os.close(namespaces.pop(name))  # entering one's own user namespace is EINVAL
    # setns(2) goes to the root of the mount namespace, whatever the container's is.
    root = os.open(f"/proc/{inside}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return namespaces, root


def _enter_for_children(namespaces: dict[str, int]) -> None:
    """Make our next child a process of the container's user and PID namespaces."""
    for name in ("user", "pid_for_children"):
        if name in namespaces:
            setns(namespaces[name], _NAMESPACES[name])


def _enter(
    namespaces: dict[str, int], root: int, launch: Launch, size: Size | None, to: Channel
) -> int | None:
    """Enter the other namespaces; return the command's terminal, open, if it has one."""
    for name in ("ipc", "uts", "net"):
        if name in namespaces:
            setns(namespaces[name], _NAMESPACES[name])
    slave = None
    if launch.terminal:
        master, slave = open_terminal(root, size)
        to.send(Terminal(master))
        os.close(master)
    setns(namespaces["mnt"], CLONE_NEWNS)
    chroot_to(root)
    return slave
