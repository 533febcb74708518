"""One more command in a container that runs.

Decided here and only here: which of the container's namespaces it enters, and how
its end is ours.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from layerstore.containers import Container
from layerstore.errors import StoreError
from mount_tools.run_init import begin, close_all_but, exit_code
from mount_tools.run_process import Launch, in_child, restrict
from mount_tools.run_signals import PASSED_ON, held
from mount_tools.run_started import Started, attend_started, raise_reported
from mount_tools.run_terminal import open_terminal, size_of_ours
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    die_with_parent,
    setns,
)

_NAMESPACES = {
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "pid": CLONE_NEWPID,
    "mnt": CLONE_NEWNS,
}


def exec_in_container(container: Container, launch: Launch) -> int:
    """Run one more command in a running container; return its exit status.

    Raises CannotStart, and StoreError.
    """
    if not container.running or container.pid is None or container.mount_point is not None:
        raise StoreError(f"container {container.id} is not running")
    with held():
        return attend_started(_start(container.pid, launch))


def _start(inside: int, launch: Launch) -> Started:
    """Start a command in the namespaces of the process `inside`."""
    fds = {
        name: os.open(f"/proc/{inside}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        for name in _NAMESPACES
    }
    master, slave = _terminal_of(inside) if launch.terminal else (None, None)
    result, report = os.pipe()
    pids, pid_to = os.pipe()
    outer = os.fork()
    if outer == 0:
        in_child(lambda: _run_outer(launch, slave, fds, pid_to, report), report)
    for fd in (report, pid_to, slave, *fds.values()):
        if fd is not None:
            os.close(fd)
    try:
        pid = int(os.read(pids, 32) or b"0")
        raise_reported(result)
        if not pid:
            raise StoreError("the command ended before it began")
    except BaseException:
        os.kill(outer, signal.SIGKILL)
        os.waitpid(outer, 0)
        if master is not None:
            os.close(master)
        raise
    finally:
        os.close(pids)
        os.close(result)
    return Started(outer, pid, master)


def _terminal_of(inside: int) -> tuple[int, int]:
    root = os.open(f"/proc/{inside}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_terminal(root, size_of_ours())
    finally:
        os.close(root)


def _run_outer(
    launch: Launch, slave: int | None, fds: dict[str, int], pid_to: int, report: int
) -> NoReturn:
    die_with_parent(signal.SIGKILL)
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    for name, kind in _NAMESPACES.items():
        setns(fds[name], kind)
    child = os.fork()
    if child == 0:
        in_child(lambda: _become_one_more(launch, slave, report), report)
    os.write(pid_to, b"%d" % child)
    os.close(pid_to)
    os.close(report)
    _, status = os.waitpid(child, 0)
    os._exit(exit_code(status))


def _become_one_more(launch: Launch, slave: int | None, report: int) -> NoReturn:
    die_with_parent(signal.SIGKILL)
    # A directory of the host, had from whoever ran us, would lead out by /proc/self/fd.
    close_all_but(report, *(() if slave is None else (slave,)))
    restrict()
    begin(launch, slave)
