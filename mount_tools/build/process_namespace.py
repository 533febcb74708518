"""Processes in PID namespaces of their own: what they have started ends with them.

The kernel kills every process of such a namespace, and of those in it, when its first one
ends.  The signal of prctl(2) PR_SET_PDEATHSIG alone does not do that: a process that runs a
program with the set-user-ID bit or capabilities is not sent it any more.

The process of an ordinary user cannot leave a PID namespace for its children again, so there
a second fork is between the two, and waits.

Threading: one thread, since it forks.

Source: pid_namespaces(7) "The namespace init process", "setns(2) and unshare(2) semantics".
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mount_tools.container.handshake import end_with
from mount_tools.daemon.after_fork import close_all_but
from mount_tools.leave import exit_code
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls.namespaces import CLONE_NEWPID, setns, unshare
from unionfs.syscalls.privilege import is_machine_root

if TYPE_CHECKING:
    from typing import NoReturn

    # Forks a process that does something and has a descriptor open; returns its pid.
    Fork = Callable[[int, Callable[[], NoReturn]], int]


def forked_inside(fork: Fork, work: Callable[[int], NoReturn]) -> int:
    """Do `work` as process 1 of a new PID namespace; return our child that ends as it does.

    `work` gets a pidfd of its parent, and calls `end_with`.
    """
    parent = os.pidfd_open(os.getpid())
    try:
        if not is_machine_root():
            return fork(parent, lambda: _wait_for(fork, work, parent))
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWPID)
            try:
                return fork(parent, lambda: work(parent))
            finally:
                setns(own, CLONE_NEWPID)
        finally:
            os.close(own)
    finally:
        os.close(parent)


def _wait_for(fork: Fork, work: Callable[[int], NoReturn], parent: int) -> NoReturn:
    end_with(parent)
    ourselves = os.pidfd_open(os.getpid())
    unshare(CLONE_NEWPID)
    child = fork(ourselves, lambda: work(ourselves))
    close_all_but()  # among them the ends of connections, of which `child` is the owner
    _, status = os.waitpid(child, 0)
    os._exit(exit_code(status))
