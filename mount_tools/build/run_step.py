"""The process of one RUN, from the fork to its end.

The stage's process has the stage mounted in a mount namespace of its own.  The command of
each RUN is process 1 of a PID namespace, as in docker's builder: processes that it leaves
running end with it.  It has a copy of the stage's mount namespace, in which /proc, /dev and
/sys are mounted.  No interpreter is started: the command takes the place of a fork of the
stage's process.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from layerstore.errors import StoreError
from mount_tools.build.attach import Attached, Stubs, attach
from mount_tools.build.process_namespace import forked_inside
from mount_tools.container.handshake import Channel, Running, Silence, channel, end_with
from mount_tools.container.init import mount_root
from mount_tools.container.network import loopback_up
from mount_tools.container.process import Launch, become_on, in_child, restrict
from mount_tools.container.system_mounts import furnish
from mount_tools.daemon.after_fork import close_all_but
from mount_tools.leave import exit_code
from unionfs import light_socket as socket
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    chroot_to,
    enter_root,
    unshare,
)

if TYPE_CHECKING:
    from typing import NoReturn

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
        # The stage has these, unless a step has moved or replaced what they were in.
        stubs.make_points(plan.files)
        for wanted in mounts:
            try:
                stubs.make(wanted.target, folder=wanted.folder)
            except OSError as error:
                raise StoreError(f"cannot mount on {wanted.target}: {error.strerror}") from error
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
    ours, theirs = channel()
    try:

        def fork(_: int, work: Callable[[], NoReturn]) -> int:
            child = os.fork()
            if child == 0:
                in_child(work, theirs)
            return child

        child = forked_inside(fork, lambda parent: _become_step(step, parent, theirs))
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


def _become_step(step: _Step, parent: int, to: Channel) -> NoReturn:
    end_with(parent)
    os.setsid()  # Ctrl-C at the builder's terminal must reach only the builder
    unshare(_SEPARATE | (0 if step.network else CLONE_NEWNET))
    if not step.network:
        loopback_up()
    plan = step.plan
    places = mount_root(_Mounted(os.fspath(plan.point)))
    _take_output(step.output)
    socket.sethostname(plan.hostname)
    chroot_to(places.chroot)
    furnish(places.root, (), plan.files, read_only=False)
    attach(places.root, step.mounts, os.fspath(plan.workspace))
    enter_root(places.namespace, places.root)
    close_all_but(to.fileno(), parent)
    restrict(step.launch.rights)
    become_on(None, step.launch, parent, to)


def _take_output(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(null)
