"""The processes of one RUN, from the fork to its end.

The stage's process has the stage mounted in a mount namespace of its own.  Each RUN gets a
copy of that namespace, in which /proc, /dev and /sys are mounted, and a PID namespace of its
own: processes that the command leaves running end with it.  No interpreter is started: all
are forks of the stage's process.

    stage --> outer process: mount, UTS, IPC and PID namespaces of the RUN; waits
                --> init, process 1: /proc, /dev, --mount; enters the root; reaps
                      --> the command

Each is killed when its parent ends.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

from mount_tools.build.attach import Attached, Stubs, attach
from mount_tools.container.handshake import Channel, Running, Silence, channel, end_with
from mount_tools.container.init import Places, exit_code, mount_root
from mount_tools.container.process import Launch, become, in_child, restrict
from mount_tools.container.process_title import set_process_title
from mount_tools.container.system_mounts import furnish
from mount_tools.daemon.after_fork import close_all_but
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    bring_up_loopback,
    chroot_to,
    enter_root,
    unshare,
)

_SEPARATE = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID


class Surroundings(NamedTuple):
    """What all RUNs of a stage have in common.

    `point` is the mount point of the stage, `files` are the files of /etc that a RUN sees, and
    `workspace` is a directory outside of the stage, on which a tmpfs can be mounted.
    """

    point: str
    hostname: str
    files: Mapping[str, str]
    workspace: str

    def mount(self) -> str:
        """Return the mount point: the stage is mounted already."""
        return self.point


def run_step(
    around: Surroundings,
    root: int,
    launch: Launch,
    mounts: Sequence[Attached],
    output: int,
    *,
    network: bool,
) -> int:
    """Run a command in the stage; return its exit status.

    `root` is the stage's root, open.  What the command prints goes to the descriptor
    `output`; its stdin is empty.  Without `network` it has only the loopback.  Raises
    CannotStart if it cannot be run, StoreError if a mount cannot be made.
    """
    stubs = Stubs(root)
    try:
        for wanted in mounts:
            stubs.make(wanted.target, folder=wanted.folder)
        return _run(around, launch, mounts, output, network=network)
    finally:
        stubs.remove()


def _run(
    around: Surroundings,
    launch: Launch,
    mounts: Sequence[Attached],
    output: int,
    *,
    network: bool,
) -> int:
    stage = os.pidfd_open(os.getpid())
    ours, theirs = channel()
    try:
        outer = os.fork()
        if outer == 0:
            ours.close()
            in_child(
                lambda: _run_outer(around, launch, mounts, output, stage, theirs, network=network),
                theirs,
            )
        theirs.close()
        try:
            # execve(2) closes the channel; if it fails, the end of the processes does.
            with suppress(Silence):
                ours.expect(Running)
        finally:
            _, status = os.waitpid(outer, 0)
        return exit_code(status)
    finally:
        ours.close()
        os.close(stage)


def _run_outer(
    around: Surroundings,
    launch: Launch,
    mounts: Sequence[Attached],
    output: int,
    stage: int,
    to: Channel,
    *,
    network: bool,
) -> NoReturn:
    end_with(stage)
    os.setsid()  # Ctrl-C at the builder's terminal must reach only the builder
    unshare(_SEPARATE | (0 if network else CLONE_NEWNET))
    if not network:
        bring_up_loopback()
    places = mount_root(around)
    _take_output(output)
    close_all_but(to.fileno(), *places)
    ourselves = os.pidfd_open(os.getpid())
    init = os.fork()
    if init == 0:
        in_child(lambda: _run_init(around, launch, mounts, places, ourselves, to), to)
    to.close()
    _, status = os.waitpid(init, 0)
    os._exit(exit_code(status))


def _take_output(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(null)


def _run_init(
    around: Surroundings,
    launch: Launch,
    mounts: Sequence[Attached],
    places: Places,
    outer: int,
    to: Channel,
) -> NoReturn:
    end_with(outer)
    set_process_title("pyunion-init")
    socket.sethostname(around.hostname)
    chroot_to(places.chroot)
    proc = furnish(places.root, (), around.files, read_only=False)
    attach(places.root, mounts, around.workspace)
    enter_root(places.namespace, places.root)
    for fd in (*places, outer, proc):
        os.close(fd)
    restrict()
    ourselves = os.pidfd_open(os.getpid())
    child = os.fork()
    if child == 0:
        in_child(lambda: _become(launch, ourselves, to), to)
    to.close()
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            # The kernel kills all other processes of the PID namespace when we exit.
            os._exit(exit_code(status))


def _become(launch: Launch, parent: int, to: Channel) -> NoReturn:
    close_all_but(to.fileno(), parent)
    become(launch, parent)
