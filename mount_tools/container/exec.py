"""One more command in a container that runs.

Decided here and only here: which of the container's namespaces it enters, and that its root
is the container's.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from layerstore.containers.containers import Container
from layerstore.db.processes import way_in
from layerstore.errors import StoreError
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
from mount_tools.container.process import Launch, in_child, restrict, run_command
from mount_tools.container.program import own_interpreter
from mount_tools.container.signals import PASSED_ON, held
from mount_tools.container.started import Started, attend_started, end_started, silence_text
from mount_tools.container.terminal import Size, open_terminal, size_of_ours
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    chroot_to,
    setns,
)

# In this order: what may be done in the others is said by the first.
_NAMESPACES = {
    "user": CLONE_NEWUSER,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "pid_for_children": CLONE_NEWPID,
    "mnt": CLONE_NEWNS,
}


def exec_in_container(container: Container, launch: Launch) -> int:
    """Run one more command in a running container; return its exit status.

    Raises CannotStart, and StoreError.
    """
    if not container.running or container.pid is None or container.mount_point is not None:
        raise StoreError(f"container {container.id} is not running")
    own_interpreter()
    with held():
        return attend_started(_start(way_in(container.pid), launch))


def _start(inside: int, launch: Launch) -> Started:
    """Start a command in the namespaces of the process `inside`."""
    size = size_of_ours()
    runner = os.pidfd_open(os.getpid())
    ours, theirs = channel()
    outer = os.fork()
    if outer == 0:
        ours.close()
        in_child(lambda: _run_outer(launch, inside, size, runner, theirs), theirs)
    theirs.close()
    os.close(runner)
    try:
        ours.watch(outer)
        terminal = ours.expect(Terminal).fd if launch.terminal else None
        pid = ours.expect(Begun).pid
        ours.expect(Running)
    except Silence:
        raise StoreError(silence_text("the process of exec", end_started(outer))) from None
    except BaseException:
        end_started(outer)
        raise
    finally:
        ours.close()
    return Started(outer, pid, terminal)


def _run_outer(
    launch: Launch, inside: int, size: Size | None, runner: int, to: Channel
) -> NoReturn:
    end_with(runner)
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    # All of this is found by our own /proc, which is out of reach later.
    namespaces = {
        name: os.open(f"/proc/{inside}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        for name in _NAMESPACES
    }
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if os.path.samestat(os.fstat(namespaces["user"]), os.stat("/proc/self/ns/user")):
        os.close(namespaces.pop("user"))  # entering one's own is EINVAL
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
    restrict()
    child = run_command(launch, slave, to, proc, announce=True, parent=ourselves)
    _, status = os.waitpid(child, 0)
    os._exit(exit_code(status))
