"""Inside a container: the process that makes its namespaces, and the init in them.

The outer process has the mount, UTS and IPC namespaces and waits; init, its
child, is process 1 of the PID namespace.  Init furnishes the root, enters
it, starts the command, passes signals on to it and reaps whatever is orphaned.
Each dies with its parent (PR_SET_PDEATHSIG), and with init the kernel ends
everything in the namespace; with the last of them goes the mount namespace and every
mount in it.  So nothing is left, whoever is killed.

Source: pid_namespaces(7), mount_namespaces(7), prctl(2).
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from mount_tools.container.process import Launch, become, in_child, restrict
from mount_tools.container.root import Volume, furnish, make_private, show_console
from mount_tools.container.signals import PASSED_ON, TAKEN, attend, is_typed
from mount_tools.container.terminal import Size, open_terminal, send_out
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    die_with_parent,
    enter_root,
    unshare,
)


class Inside(NamedTuple):
    """What a container looks like from inside; its terminal, if any, is of `size` at first."""

    hostname: str
    launch: Launch
    volumes: Sequence[Volume]
    read_only: bool
    files: Mapping[str, str]
    size: Size | None


class Ends(NamedTuple):
    """Where the outer process and init hear and tell: pipes, and a socket for a terminal."""

    mounted: int
    go: int
    pids: int
    report: int
    terminal: int


def run_outer(inside: Inside, mount_root: Callable[[], str], ends: Ends) -> NoReturn:
    """Make the namespaces, mount the root, and wait for init; the caller has just forked.

    `mount_root` mounts and returns where; then a byte goes to `mounted`, one is waited
    for on `go`, init's pid is written to `pids`, and init waits for one more.  The master
    of a terminal, where there is to be one, is sent to `terminal` before the command begins.
    """

    parent = os.getppid()

    def work() -> NoReturn:
        _die_with(parent)
        for number in PASSED_ON:
            signal.signal(number, signal.SIG_IGN)
        unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID)
        make_private()
        point = mount_root()
        # Locks, and above all /dev/fuse: while we held it nobody would hear of its daemon's end.
        close_all_but(*ends)
        os.write(ends.mounted, b"m")
        os.close(ends.mounted)
        if os.read(ends.go, 1) != b"g":
            os._exit(1)
        init = os.fork()
        if init == 0:
            in_child(lambda: _run_init(inside, point, ends), ends.report)
        os.write(ends.pids, b"%d" % init)
        os.close(ends.pids)
        os.close(ends.report)
        _, status = os.waitpid(init, 0)
        os._exit(exit_code(status))

    in_child(work, ends.report)


def close_all_but(*kept: int) -> None:
    """Close every fd but those, and the three that everybody has."""
    start = 3
    for fd in sorted(kept):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def _die_with(parent: int) -> None:
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it had died already


def _run_init(inside: Inside, point: str, ends: Ends) -> NoReturn:
    die_with_parent(signal.SIGKILL)
    if os.read(ends.go, 1) != b"s":
        os._exit(1)
    socket.sethostname(inside.hostname)
    root = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    furnish(root, inside.volumes, inside.files, read_only=inside.read_only)
    slave = None
    if inside.launch.terminal:
        master, slave = open_terminal(root, inside.size)
        show_console(root, slave)
        send_out(master, ends.terminal)
    enter_root(os.fsencode(point))
    os.close(root)
    restrict()
    # Nobody sends process 1 what it does not handle, unless it blocks it.
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
    child = os.fork()
    if child == 0:
        in_child(lambda: begin(inside.launch, slave), ends.report)
    os.close(ends.report)
    # The slave stays open: a terminal that everybody has closed would look like one hung up.

    def pass_on(taken: signal.struct_siginfo) -> None:
        if not is_typed(taken):
            os.kill(child, taken.si_signo)

    # The kernel ends all others with us.
    os._exit(exit_code(attend(child, pass_on, orphans=True)))


def begin(launch: Launch, terminal: int | None) -> NoReturn:
    """Run what `launch` says in the place of this process, on that terminal if there is one."""
    if terminal is not None:
        os.login_tty(terminal)
    become(launch)


def exit_code(status: int) -> int:
    """Return what a shell makes of a wait status: 128 and the signal for one who was killed."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
