"""exec: run one more command in a running container.

This is the part of the keeper; `start` is that of the command.

Decided here and only here: which of the container's namespaces it enters, and that its root
is the container's.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from layerstore.db.processes import ProcessId
from layerstore.errors import StoreError
from layerstore.oci.run_config import RunConfig
from mount_tools.container.cgroup import OURSELVES, enter, group_of
from mount_tools.container.entrance import check_still, way_into
from mount_tools.container.handshake import Begun, Channel, Silence, Terminal, end_with
from mount_tools.container.keeper import Keeper
from mount_tools.container.keeper_process import ExecOrder
from mount_tools.container.process import (
    Launch,
    execute,
    in_child,
    launch_of,
    prepare,
    restrict,
)
from mount_tools.container.process_title import forget_environment
from mount_tools.container.program import own_interpreter
from mount_tools.container.signals import held
from mount_tools.container.started import Started, begin, end_started, silence_text
from mount_tools.container.streams import Streams, of_terminal, streams_for
from mount_tools.container.sub_ids import remember
from mount_tools.container.terminal import Size, open_terminal
from mount_tools.daemon.after_fork import close_all_but
from mount_tools.daemon.detach import ended_within
from mount_tools.daemon.report import Reporter
from unionfs import light_socket as socket
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    adopt_orphans,
    chroot_to,
    die_with_parent,
    keep_only,
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
    """What the command enters: the namespaces of `first`, the container's first process, and
    the container's control group.
    """

    first: ProcessId
    group: Path | None


def keep(order: ExecOrder, viewer: socket.socket | None, reporter: Reporter) -> None:
    """Be the keeper of a command in a running container, to its end."""
    own_interpreter()
    remember()
    # As in docker: only the start of a container makes its working directory.
    launch = launch_of(RunConfig(order.config), order.root)._replace(make_directory=False)
    first = ProcessId(*order.init)
    inside = _Inside(first, group_of(first.pid))
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
    """Start a command in the container `inside`; return its pid.

    Our child enters the container, all but its PID namespace, and becomes what the command
    will be.  Only its own child, the command, is seen in the container: a process there that
    may trace others could use the rights of any that has more.
    """
    try:
        namespaces, root = _way(inside)
    except FileNotFoundError:
        raise StoreError("the container has ended") from None
    streams, ends = streams_for(launch, stdin=stdin)
    adopt_orphans()

    def work(parent: int, to: Channel) -> NoReturn:
        end_with(parent)
        forget_environment()
        if inside.group is not None:
            enter(inside.group, OURSELVES)
        _enter(namespaces, root, launch, size, to)

    child, ours = begin(ends, work)
    try:
        for fd in (root, *namespaces.values()):
            os.close(fd)
        if launch.terminal:
            streams = of_terminal(ours.expect(Terminal).fd)
        command = ours.expect(Begun).pid
        os.waitpid(child, 0)
        child = command  # it is ours now
        ours.watch(child)
        ours.wait_for_execve(child)
    except Silence:
        raise StoreError(silence_text("the process of exec", end_started(child))) from None
    except BaseException:
        end_started(child)
        raise
    finally:
        ours.close()
    return child, streams


def _way(inside: _Inside) -> tuple[dict[str, int], int]:
    """Return the namespaces of `inside` that are not ours, and its root, all open.

    They are found by our own /proc, which is out of reach later.
    """
    process = way_into(inside.first)
    namespaces = {
        name: os.open(f"{process}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _NAMESPACES
    }
    for name in ("user", "net"):
        if os.path.samestat(os.fstat(namespaces[name]), os.stat(f"/proc/self/ns/{name}")):
            os.close(namespaces.pop(name))  # entering one's own user namespace is EINVAL
    # setns(2) goes to the root of the mount namespace, whatever the container's is.
    root = os.open(f"{process}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    check_still(inside.first)
    return namespaces, root


def _enter(
    namespaces: dict[str, int], root: int, launch: Launch, size: Size | None, to: Channel
) -> NoReturn:
    """Enter the namespaces, in a child of the keeper; fork the command there, and end."""
    for name in ("user", "pid_for_children", "ipc", "uts", "net"):
        if name in namespaces:
            setns(namespaces[name], _NAMESPACES[name])
    slave = None
    if launch.terminal:
        master, slave = open_terminal(root, size)
        to.send(Terminal(master))
        os.close(master)
    setns(namespaces["mnt"], CLONE_NEWNS)
    chroot_to(root)
    restrict(launch.rights)
    for number in range(3 if slave is not None else 0):
        os.dup2(slave or 0, number)
    us = os.pidfd_open(os.getpid())
    # An inherited directory of the host would lead out of the container by /proc/self/fd/N.
    close_all_but(to.fileno(), us)
    environment = prepare(launch)
    keep_only(launch.rights.capabilities)
    command = os.fork()
    if command == 0:
        in_child(lambda: _become(launch, environment, us, to), to)
    to.send(Begun(command))
    os._exit(0)


def _become(launch: Launch, environment: dict[str, str], parent: int, to: Channel) -> NoReturn:
    """Become the command, in a child of the process `parent`, a pidfd, once that has ended."""
    ended_within(parent, None)
    # Now our parent is the keeper.  We have no pidfd of it: by that a process which traces us
    # could take descriptors of the keeper.
    die_with_parent(signal.SIGKILL)
    poll = select.poll()
    poll.register(to, select.POLLIN)
    if poll.poll(0):
        raise Silence
    os.close(parent)
    os.setsid()  # a signal to our process group is not the keeper's
    if launch.terminal:
        os.login_tty(0)
    execute(launch, environment)
