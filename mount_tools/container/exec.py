"""exec: run one more command in a running container.

Decided here and only here: which of the container's namespaces it enters, and that its root
is the container's.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import NoReturn

from layerstore.containers.containers import Container
from layerstore.db.container_table import KILLED
from layerstore.db.processes import way_in
from layerstore.errors import StoreError
from mount_tools.container.attach_messages import Connection, pair
from mount_tools.container.handshake import (
    Begun,
    Channel,
    Running,
    Silence,
    Terminal,
    channel,
    end_with,
)
from mount_tools.container.init import exit_code
from mount_tools.container.keeper import Keeper, leave_keeper
from mount_tools.container.process import Launch, in_child, restrict, run_command
from mount_tools.container.program import own_interpreter
from mount_tools.container.signals import PASSED_ON, held
from mount_tools.container.started import Started, end_started, silence_text
from mount_tools.container.streams import Streams, of_terminal, streams_for
from mount_tools.container.terminal import Size, open_terminal, size_of_ours
from mount_tools.container.viewer import Viewer, status_of
from mount_tools.daemon.after_fork import close_all_but
from mount_tools.daemon.report import Reporter
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    chroot_to,
    setns,
)

# In this order, because the first one decides about the rights in the others.
_NAMESPACES = {
    "user": CLONE_NEWUSER,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "net": CLONE_NEWNET,
    "pid_for_children": CLONE_NEWPID,
    "mnt": CLONE_NEWNS,
}


def exec_in_container(
    container: Container, launch: Launch, *, stdin: bool = True, keys: bytes = b""
) -> int:
    """Run one more command in a running container and show it here; return its exit status.

    With `stdin` the command gets what comes from ours.  With `keys`, those of
    `detach_keys`, the user can leave it running, which returns 0.  Raises CannotStart, and
    StoreError.
    """
    with held():
        ours, theirs = pair()
        try:
            _detach(container, launch, theirs, stdin=stdin)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        viewer = Viewer(Connection(ours), terminal=launch.terminal, stdin=stdin, keys=keys)
        with viewer:
            return status_of(viewer.view(), lambda: KILLED)


def exec_detached(container: Container, launch: Launch) -> None:
    """Run one more command in a running container, in the background; return once it runs.

    Raises CannotStart, and StoreError.
    """
    _detach(container, launch, None, stdin=False)


def _detach(
    container: Container, launch: Launch, viewer: socket.socket | None, *, stdin: bool
) -> None:
    """Leave a keeper behind, connected to `viewer`, once the command runs."""
    if not container.running or container.pid is None or container.mount_point is not None:
        raise StoreError(f"container {container.id} is not running")
    own_interpreter()
    inside, size = way_in(container.pid), size_of_ours()

    leave_keeper(
        lambda reporter: _keep(launch, inside, viewer, reporter, size, stdin=stdin),
        viewer,
        "the command",
    )


def _keep(
    launch: Launch,
    inside: int,
    viewer: socket.socket | None,
    reporter: Reporter,
    size: Size | None,
    *,
    stdin: bool,
) -> None:
    """Be the keeper of a command in the namespaces of the process `inside`, to its end."""
    with held():
        started, streams = _start(inside, launch, size, stdin=stdin)
        keeper = Keeper(streams, first=viewer)
        try:
            with suppress(BrokenPipeError):  # nobody waits any more; the command runs on
                reporter.live()
            reporter.close()
            code = keeper.attend(started)
        except BaseException:
            end_started(started.outer)
            raise
        keeper.close(code)


def _start(
    inside: int, launch: Launch, size: Size | None, *, stdin: bool
) -> tuple[Started, Streams]:
    """Start a command in the namespaces of the process `inside`."""
    streams, ends = streams_for(launch, stdin=stdin)
    runner = os.pidfd_open(os.getpid())
    ours, theirs = channel()
    outer = os.fork()
    if outer == 0:
        ours.close()
        ends.take()
        in_child(lambda: _run_outer(launch, inside, size, runner, theirs), theirs)
    theirs.close()
    ends.close()
    os.close(runner)
    try:
        ours.watch(outer)
        if launch.terminal:
            streams = of_terminal(ours.expect(Terminal).fd)
        pid = ours.expect(Begun).pid
        ours.expect(Running)
    except Silence:
        raise StoreError(silence_text("the process of exec", end_started(outer))) from None
    except BaseException:
        end_started(outer)
        raise
    finally:
        ours.close()
    return Started(outer, pid), streams


def _run_outer(
    launch: Launch, inside: int, size: Size | None, runner: int, to: Channel
) -> NoReturn:
    # The keeper's ends of the streams, and the pipe of its report, are not ours.
    close_all_but(to.fileno(), runner)
    end_with(runner)
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    # All of this is found by our own /proc, which is out of reach later.
    namespaces = {
        name: os.open(f"/proc/{inside}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        for name in _NAMESPACES
    }
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in ("user", "net"):
        if os.path.samestat(os.fstat(namespaces[name]), os.stat(f"/proc/self/ns/{name}")):
            os.close(namespaces.pop(name))  # entering one's own user namespace is EINVAL
    slave = None
    for name, fd in namespaces.items():
        if name == "mnt":
            # setns(2) goes to the root of the mount namespace, whatever the container's is.
            root = os.open(f"/proc/{inside}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if launch.terminal:
                master, slave = open_terminal(root, size)
                to.send(Terminal(master))
                os.close(master)
            setns(fd, CLONE_NEWNS)
            chroot_to(root)
            os.close(root)
        else:
            setns(fd, _NAMESPACES[name])
        os.close(fd)
    ourselves = os.pidfd_open(os.getpid())
    restrict(launch.rights)
    child = run_command(launch, slave, to, proc, announce=True, parent=ourselves)
    _, status = os.waitpid(child, 0)
    os._exit(exit_code(status))
