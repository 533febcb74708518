"""One more command in a container that runs.

Decided here and only here: which of the container's namespaces it enters, and how
its end is ours.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NamedTuple, NoReturn

from layerstore.containers.containers import Container
from layerstore.db.processes import way_in
from layerstore.errors import StoreError
from mount_tools.container.init import begin, close_all_but, exit_code
from mount_tools.container.process import Launch, in_child, restrict
from mount_tools.container.signals import PASSED_ON, held
from mount_tools.container.started import Started, attend_started, raise_reported
from mount_tools.container.terminal import Size, open_terminal, received, send_out, size_of_ours
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    die_with_parent,
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


class _Ends(NamedTuple):
    """Where the outer process tells: pipes, and a socket for the master of a terminal."""

    pids: int
    terminal: int
    report: int


def exec_in_container(container: Container, launch: Launch) -> int:
    """Run one more command in a running container; return its exit status.

    Raises CannotStart, and StoreError.
    """
    if not container.running or container.pid is None or container.mount_point is not None:
        raise StoreError(f"container {container.id} is not running")
    with held():
        return attend_started(_start(way_in(container.pid), launch))


def _start(inside: int, launch: Launch) -> Started:
    """Start a command in the namespaces of the process `inside`."""
    fds = {
        name: os.open(f"/proc/{inside}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        for name in _NAMESPACES
    }
    if os.path.samestat(os.fstat(fds["user"]), os.stat("/proc/self/ns/user")):
        os.close(fds.pop("user"))  # it cannot be entered once more
    size = size_of_ours()
    result, report = os.pipe()
    pids, pid_to = os.pipe()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outer = os.fork()
        if outer == 0:
            ends = _Ends(pid_to, theirs.detach(), report)
            in_child(lambda: _run_outer(launch, inside, size, fds, ends), report)
        for fd in (report, pid_to, *fds.values()):
            os.close(fd)
        try:
            pid = int(os.read(pids, 32) or b"0")
            raise_reported(result)
            if not pid:
                raise StoreError("the command ended before it began")
            terminal = received(ours.fileno()) if launch.terminal else None
        except BaseException:
            os.kill(outer, signal.SIGKILL)
            os.waitpid(outer, 0)
            raise
        finally:
            os.close(pids)
            os.close(result)
    return Started(outer, pid, terminal)


def _run_outer(
    launch: Launch, inside: int, size: Size | None, fds: dict[str, int], ends: _Ends
) -> NoReturn:
    die_with_parent(signal.SIGKILL)
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    slave = None
    for name, kind in _NAMESPACES.items():
        if name == "mnt" and launch.terminal:
            # Where we may look into the container by now, and still have our own /proc.
            root = os.open(f"/proc/{inside}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            master, slave = open_terminal(root, size)
            send_out(master, ends.terminal)
        if name in fds:
            setns(fds[name], kind)
    child = os.fork()
    if child == 0:
        in_child(lambda: _become_one_more(launch, slave, ends.report), ends.report)
    os.write(ends.pids, b"%d" % child)
    os.close(ends.pids)
    os.close(ends.report)
    _, status = os.waitpid(child, 0)
    os._exit(exit_code(status))


def _become_one_more(launch: Launch, slave: int | None, report: int) -> NoReturn:
    die_with_parent(signal.SIGKILL)
    # A directory of the host, had from whoever ran us, would lead out by /proc/self/fd.
    close_all_but(report, *(() if slave is None else (slave,)))
    restrict()
    begin(launch, slave)
