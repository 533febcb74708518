"""Run containers: the mount, the namespaces, the command in them, and its end.

This is the part of the keeper; `start` is that of the command.

Decided here and only here: the order of these steps, and what the store records.  The root
is mounted in the container's mount namespace and served by the keeper, outside of it; see
`root_serving`.

Threading: one thread until the outer process is forked; then `root_serving` has more.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from layerstore.containers.container import Container
from layerstore.containers.container_log import LogWriter
from layerstore.errors import NotFound, StoreError
from layerstore.oci.run_config import RunConfig
from layerstore.store import Store
from mount_tools.container.attach_messages import listen
from mount_tools.container.cgroup import (
    NoCgroup,
    forget_oom_kills,
    make_cgroup,
    record,
    release,
    set_limits,
)
from mount_tools.container.etc_files import etc_files
from mount_tools.container.handshake import (
    REFUSED,
    Begun,
    CannotStart,
    Channel,
    Recorded,
    Running,
    Silence,
    Terminal,
)
from mount_tools.container.host_config import checked_hostname, host_config
from mount_tools.container.init import Inside, run_outer
from mount_tools.container.keeper import Keeper
from mount_tools.container.keeper_process import RunOrder
from mount_tools.container.limits import Limits
from mount_tools.container.process import Launch, launch_of
from mount_tools.container.program import own_interpreter
from mount_tools.container.rights import MKNOD
from mount_tools.container.root_daemon import FuseRoot
from mount_tools.container.root_options import Point, RootOrder, root_order
from mount_tools.container.root_serving import RootServer
from mount_tools.container.running import refuse_running
from mount_tools.container.signals import held
from mount_tools.container.started import Started, begin, end_started, end_target, silence_text
from mount_tools.container.streams import Streams, of_terminal, streams_for
from mount_tools.container.terminal import Size
from mount_tools.container.user_namespace import be_root
from mount_tools.daemon.handover import await_predecessor
from mount_tools.daemon.report import Reporter
from mount_tools.mount.fuse import open_device
from unionfs import light_socket as socket
from unionfs.errors import MountError
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.mount import MS_NODEV
from unionfs.syscalls.namespaces import adopt_orphans
from unionfs.syscalls.privilege import is_machine_root

_LAST_MOMENT_S = 1.0
"""How long a process may take to end after its mounts have gone; do_exit() in kernel/exit.c."""


class _Start(NamedTuple):
    """What is started, and how: `size` is that of its terminal at first."""

    store: Store
    container: Container
    launch: Launch
    transport: str
    stdin: bool
    size: Size | None


def keep(order: RunOrder, viewer: socket.socket | None, reporter: Reporter) -> None:
    """Be the keeper of a container, to its end."""
    be_root()
    with held(), Store.open(order.root, sync=order.sync, create=False) as store:
        container = store.containers.get(order.container)
        launch = launch_of(RunConfig(container.config), order.root)
        start = _Start(store, container, launch, order.transport, order.stdin, order.size)
        root = _keep_started(start, viewer, reporter)
    root.stay()


def _keep_started(start: _Start, viewer: socket.socket | None, reporter: Reporter) -> RootServer:
    """Start the container's command and keep it to its end; return what has served its root."""
    store, container = start.store, start.container
    running = _start(start)
    # With `run --rm` the viewer gets the output, and nobody can read a log afterwards.
    logs = viewer is None or not container.auto_remove
    keeper = Keeper(
        running.streams,
        first=viewer,
        log=LogWriter(container.directory) if logs else None,
        listener=running.listener,
    )
    code = None
    try:
        try:
            code = keeper.keep(running.started, reporter)
        finally:
            end_target(running.started)
            running.root.await_end()
        release(container.directory)
        # That it is removed is synced, and all before it.
        durable, ended = not container.auto_remove, code
        # Its own log or files may have filled the disk.
        store.reserve.with_room(
            lambda: store.containers.finished(container, ended, durable=durable)
        )
        if container.auto_remove:
            with suppress(NotFound):  # another process has removed it
                store.containers.remove(store.containers.get(container.id))
    finally:
        keeper.close(code)
    return running.root


class _Running(NamedTuple):
    """A container's command that runs, and what its keeper has of it."""

    started: Started
    streams: Streams
    listener: socket.socket
    root: RootServer


def _start(start: _Start) -> _Running:
    """Start the container's command; the caller attends to it, and closes what it gets."""
    own_interpreter()
    store = start.store
    with store.containers.lock(start.container):
        container = store.containers.get(start.container.id)
        refuse_running(container)
        try:
            fuse = open_device()
        except MountError as error:
            raise StoreError(str(error)) from None
        listener = None
        try:
            listener = listen(container.directory)
            inside, order = _inside_of(start, container, fuse)
            return _start_inside(start, inside, order, listener)
        except BaseException:
            if listener is not None:
                listener.close()
            raise


def _start_inside(
    start: _Start, inside: Inside[FuseRoot], order: RootOrder, listener: socket.socket
) -> _Running:
    """Start the processes of the container; the caller closes `listener` if that fails."""
    streams, ends = streams_for(inside.launch, stdin=start.stdin)
    adopt_orphans()
    child, ours = begin(ends, lambda keeper, to: run_outer(inside, keeper, to))
    try:
        # Not earlier: a child would inherit the descriptors and locks of the union.
        root = RootServer(order, inside.root.fuse)
    except BaseException:
        end_started(child)
        ours.close()
        raise
    try:
        started, terminal = _begin_command(start, inside, child, ours, root)
    except BaseException:
        root.cancel()
        raise
    finally:
        ours.close()
    return _Running(started, streams if terminal is None else terminal, listener, root)


def _begin_command(
    start: _Start, inside: Inside[FuseRoot], child: int, ours: Channel, root: RootServer
) -> tuple[Started, Streams | None]:
    """Go on as `handshake` says, in its order, until the command of the container runs.

    `child` is the outer process.  Returns the streams too if those are a terminal.
    """
    containers, container = start.store.containers, start.container
    recorded, streams = False, None
    try:
        init = ours.expect(Begun).pid
        if not inside.outer_stays:
            _, status = os.waitpid(child, 0)
            child = init  # it is ours now
            if status != 0:
                ours.raise_failure()
            ours.watch(child)
        try:
            root.serve()
        except StoreError:
            # The mount may have gone with the process that made it, a moment before its end.
            ours.raise_failure(_LAST_MOMENT_S)
            raise
        # Before init begins: if we are killed, the row is all that others can find.
        try:
            containers.started(container, init)
            target_fd = None if child == init else os.pidfd_open(init)
        except (NotFound, ProcessLookupError):  # init has ended
            ours.raise_failure()
            raise Silence from None
        recorded = True
        ours.send(Recorded())
        if inside.launch.terminal:
            streams = of_terminal(ours.expect(Terminal).fd)
        if inside.host.init:
            ours.expect(Running)
        else:
            ours.wait_for_execve(init)
    except CannotStart as error:
        end_started(child)
        containers.finished(container, error.status)
        raise
    except Silence:
        status = end_started(child)
        if recorded:
            containers.finished(container, REFUSED)
        raise StoreError(
            silence_text(f"the process of container {container.name}", status)
        ) from None
    except BaseException:
        end_started(child)
        raise
    return Started(child, init, target_fd), streams


def _inside_of(
    start: _Start, container: Container, fuse: int
) -> tuple[Inside[FuseRoot], RootOrder]:
    """Return what the container looks like inside, and what its daemon serves there."""
    store, launch = start.store, start.launch
    config = RunConfig(container.config)
    hostname = checked_hostname(config.hostname or container.short)
    host = host_config(config)
    host.refuse_missing()
    if store.volumes.uses_of(container.id):
        from mount_tools.container.volume_content import volumes_to_show

        host = host._replace(volumes=(*host.volumes, *volumes_to_show(store, container)))
    directory = container.directory
    # The image's devices do not work, unless the user lets the container make its own; those
    # of /dev are on a filesystem of their own.
    devices = MKNOD in host.rights.capabilities
    flags = 0 if devices else MS_NODEV
    order = root_order(store, container, transport=start.transport, flags=flags)
    point = directory / "merged"
    point.mkdir(mode=0o755, exist_ok=True)
    await_predecessor(os.fsencode(container.upper))
    files = etc_files(os.fspath(directory), hostname, host)
    wanted = [Point(f"/{name}", folder=False) for name in files]
    wanted += [Point(one.target, folder=True) for one in host.tmpfs]
    wanted += [Point(volume.target, os.path.isdir(volume.source)) for volume in host.volumes]
    # What is removed at its end need not be on disk before.
    order = order._replace(points=tuple(wanted), volatile=container.auto_remove)
    inside = Inside(
        FuseRoot(fuse, os.fspath(point), order.options()),
        hostname,
        launch._replace(environment=(f"HOSTNAME={hostname}", *launch.environment)),
        host,
        files,
        start.size,
        # An ordinary user reaches the container by /proc of that process: see `way_in`.  And
        # it kills a command that is process 1, has changed its user, and lost its keeper.
        outer_stays=not (is_machine_root() and host.init),
        group=_group_of(container, host.limits),
    )
    return inside, order


def _group_of(container: Container, limits: Limits) -> Path | None:
    """Return the control group that limits the container, None if nothing does."""
    directory = container.directory
    release(directory)  # of a start whose keeper was killed
    forget_oom_kills(directory)
    if not limits.controllers:
        return None
    try:
        group = make_cgroup(container.id, limits.controllers)
        record(directory, group)
        set_limits(group, limits.files)
    except NoCgroup as error:
        raise StoreError(
            f"the container cannot be limited: {error}; leave the limits out, or start it by "
            "`systemd-run --scope -p MemoryMax=… -p CPUQuota=… -p TasksMax=… pyunion run …`"
        ) from None
    return group
