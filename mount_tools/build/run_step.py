"""The process of one RUN, from the fork to its end.

The stage's process has the stage mounted in a mount namespace of its own.  The command of
each RUN is process 1 of a PID namespace, as in docker's builder: processes that it leaves
running end with it.  It has a copy of the stage's mount namespace, in which /proc, /dev and
/sys are mounted.  No interpreter is started: the command takes the place of a fork of the
stage's process.

The process of an ordinary user cannot leave a PID namespace for its children again, so
there a second fork is between the two, and waits.

Each is killed when its parent ends.

Threading: one thread, since it forks.

Source: pid_namespaces(7) "setns(2) and unshare(2) semantics".
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from mount_tools.build.attach import Attached, Stubs, attach
from mount_tools.container.handshake import Channel, Running, Silence, channel, end_with
from mount_tools.container.init import exit_code, mount_root
from mount_tools.container.process import Launch, become_on, in_child, restrict
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
    setns,
    unshare,
)
from unionfs.syscalls.privilege import is_machine_root

if TYPE_CHECKING:
    from mount_tools.build.stage_mount import StagePlan

_SEPARATE = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC


class _Mounted(NamedTuple):
    """The stage, which is mounted already."""

    point: str

    def mount(self) -> str:
        """Return the mount point."""
        return self.point


def run_step(
    plan: StagePlan,
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
        return _run(_Step(plan, launch, mounts, output, network))
    finally:
        stubs.remove()


class _Step(NamedTuple):
    """What a RUN runs, and how."""

    plan: StagePlan
    launch: Launch
    mounts: Sequence[Attached]
    output: int
    network: bool


def _run(step: _Step) -> int:
    stage = os.pidfd_open(os.getpid())
    ours, theirs = channel()
    try:
        child = _forked_inside(lambda parent: _become_step(step, parent, theirs), stage, theirs)
        theirs.close()
        try:
            # execve(2) closes the channel; if it fails, the end of the processes does.
            with suppress(Silence):
                ours.expect(Running)
        finally:
            _, status = os.waitpid(child, 0)
        return exit_code(status)
    finally:
        ours.close()
        os.close(stage)


def _forked_inside(work: Callable[[int], NoReturn], stage: int, to: Channel) -> int:
    """Do `work` as process 1 of a new PID namespace; return our child that ends as it does.

    `work` gets a pidfd of its parent.
    """
    if is_machine_root():
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWPID)
            try:
                return _forked(lambda: work(stage), to)
            finally:
                setns(own, CLONE_NEWPID)
        finally:
            os.close(own)

    def wait() -> NoReturn:
        end_with(stage)
        ourselves = os.pidfd_open(os.getpid())
        unshare(CLONE_NEWPID)
        child = _forked(lambda: work(ourselves), to)
        to.close()
        _, status = os.waitpid(child, 0)
        os._exit(exit_code(status))

    return _forked(wait, to)


def _forked(work: Callable[[], NoReturn], to: Channel) -> int:
    child = os.fork()
    if child == 0:
        in_child(work, to)
    return child


def _become_step(step: _Step, parent: int, to: Channel) -> NoReturn:
    end_with(parent)
    os.setsid()  # Ctrl-C at the builder's terminal must reach only the builder
    unshare(_SEPARATE | (0 if step.network else CLONE_NEWNET))
    if not step.network:
        bring_up_loopback()
    plan = step.plan
    places = mount_root(_Mounted(os.fspath(plan.point)))
    _take_output(step.output)
    socket.sethostname(plan.hostname)
    chroot_to(places.chroot)
    furnish(places.root, (), plan.files, read_only=False)
    attach(places.root, step.mounts, os.fspath(plan.workspace))
    enter_root(places.namespace, places.root)
    close_all_but(to.fileno(), parent)
    restrict()
    become_on(None, step.launch, parent, to)


def _take_output(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(null)
