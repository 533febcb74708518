"""The processes in a container: one that makes its namespaces, and init.

The outer process makes the namespaces, mounts the root, forks init and ends: init is then the
child of the keeper, which adopts orphans.  Where it has to stay, it ends as init does.  The outer
process mounts, and not init, because FUSE tells a daemon the pids of the PID namespace that the
mount was made in.  Init is process 1 of the new PID namespace: it mounts /proc and the rest, and
enters the root.  Then it starts the command, passes signals on to it and reaps orphans; or it
becomes the command.  It is killed when the keeper ends (PR_SET_PDEATHSIG).  When init ends the
kernel kills every process of the namespace, and with the last of them the mount namespace and its
mounts end.  So nothing is left, whichever process is killed.

Source: pid_namespaces(7), mount_namespaces(7), prctl(2).
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mount_tools.container.cgroup import OURSELVES, enter
from mount_tools.container.handshake import (
    Begun,
    Channel,
    Recorded,
    Terminal,
    end_with,
)
from mount_tools.container.host_config import NO_NETWORK, HostConfig
from mount_tools.container.network import loopback_up
from mount_tools.container.process import Launch, become_on, in_child, restrict, run_command
from mount_tools.container.process_title import forget_environment, set_process_title
from mount_tools.container.signals import EVERY, attend, is_typed
from mount_tools.container.system_mounts import furnish, make_private, show_console
from mount_tools.container.terminal import Size, open_terminal
from mount_tools.daemon.after_fork import close_all_but
from mount_tools.leave import exit_code
from unionfs import light_socket as socket
from unionfs.light_typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar
from unionfs.syscalls.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    chroot_to,
    die_with_parent,
    enter_root,
    leave_chroot,
    mount_namespace,
    unshare,
)

if TYPE_CHECKING:
    from typing import NoReturn


class Root(Protocol):
    """Something that a container's root is mounted from."""

    def mount(self) -> str:
        """Mount it in this process's mount namespace; return the directory.  Raises StoreError."""


AnyRoot = TypeVar("AnyRoot", bound=Root)


class Inside(NamedTuple, Generic[AnyRoot]):
    """What a container looks like from inside; `size` is the initial size of its terminal.

    If `outer_stays`, the outer process waits for the end of init and ends as init does.
    `group` is the control group of init and all that it starts.
    """

    root: AnyRoot
    hostname: str
    launch: Launch
    host: HostConfig
    files: Mapping[str, str]
    size: Size | None
    outer_stays: bool = False
    group: Path | None = None


class Places(NamedTuple):
    """Descriptors of the mount namespace, of the chroot that we came from and of the root."""

    namespace: int
    chroot: int
    root: int


def run_outer(inside: Inside[AnyRoot], keeper: int, to: Channel) -> NoReturn:
    """Make the namespaces, mount the root, and fork init; the caller has just forked.

    `keeper` is a pidfd of the process that forked.  `handshake` has the messages.
    """
    end_with(keeper)
    flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID
    if inside.host.network == NO_NETWORK:
        unshare(flags | CLONE_NEWNET)
        loopback_up()
    else:
        unshare(flags)
    places = mount_root(inside.root)
    # Close locks, and above all /dev/fuse: while we have it open the kernel does not end the
    # connection when its daemon ends.
    close_all_but(to.fileno(), keeper, *places)
    parent = os.pidfd_open(os.getpid()) if inside.outer_stays else keeper
    init = os.fork()
    if init == 0:
        in_child(lambda: _run_init(inside, places, parent, to), to)
    to.send(Begun(init))
    if not inside.outer_stays:
        os._exit(0)
    to.close()
    _end_with(init, keeper)


def _end_with(init: int, keeper: int) -> NoReturn:
    """End as our child `init` does, which is killed when the process `keeper`, a pidfd, ends.

    The kernel does not kill a command that is process 1 and has changed its user (prctl(2)).
    """
    die_with_parent(0)
    ended = os.pidfd_open(init)
    os.closerange(0, 3)  # whether the command has closed its streams is seen at the other ends
    poll = select.poll()
    for fd in (keeper, ended):
        poll.register(fd, select.POLLIN)
    if any(fd == keeper for fd, _ in poll.poll()):
        os.kill(init, signal.SIGKILL)
    _, status = os.waitpid(init, 0)
    os._exit(exit_code(status))


def mount_root(root: Root) -> Places:
    """Mount the container's root in our new mount namespace, and leave our chroot.

    PyUnion may run in a chroot.  The mounts of the whole namespace must become private, not
    only those of the chroot.  And pivot_root(2) moves only processes whose root is that of
    the namespace: if ours were another, /proc/PID/root would lead to the host.
    """
    os.umask(0o022)  # mount points are for every user of the container
    namespace = mount_namespace()
    chroot = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    leave_chroot(namespace)
    make_private()
    chroot_to(chroot)
    point = root.mount()
    places = Places(namespace, chroot, os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    leave_chroot(namespace)
    return places


def _run_init(inside: Inside[AnyRoot], places: Places, parent: int, to: Channel) -> NoReturn:
    to.expect(Recorded)
    # Not earlier: the signal would come too when the outer process ends.
    end_with(parent)
    # The keeper serves our root at the lowest priority of its session: see `scheduling`.  And a
    # signal to our process group is not the keeper's.
    os.setsid()
    set_process_title("pyunion-init")
    forget_environment()
    socket.sethostname(inside.hostname)
    chroot_to(places.chroot)
    if inside.group is not None:
        enter(inside.group, OURSELVES)
    proc = furnish(
        places.root,
        inside.host.volumes,
        inside.files,
        read_only=inside.host.read_only,
        tmpfs=inside.host.tmpfs,
        devices=inside.host.devices,
        privileged=inside.host.privileged,
    )
    slave = None
    if inside.launch.terminal:
        master, slave = open_terminal(places.root, inside.size)
        show_console(places.root, slave)
        to.send(Terminal(master))
        os.close(master)
    enter_root(places.namespace, places.root)
    for fd in places:
        os.close(fd)
    restrict(inside.launch.rights)
    if not inside.host.init:
        os.close(proc)
        become_on(slave, inside.launch, parent, to)
    os.close(parent)
    # The kernel sends process 1 only signals that it handles or blocks.
    signal.pthread_sigmask(signal.SIG_BLOCK, EVERY)
    child = run_command(inside.launch, slave, to, proc)
    # The slave stays open: a terminal that no process has open looks like one that hung up.

    def pass_on(taken: signal.struct_siginfo) -> None:
        if not is_typed(taken):
            os.kill(child, taken.si_signo)

    # When we exit the kernel kills all other processes of the namespace.
    wait = partial(signal.sigwaitinfo, EVERY)
    os._exit(exit_code(attend(child, pass_on, orphans=True, wait=wait)))
