"""Running containers: the mount, the namespaces, the command in them, and its end.

Decided here and only here: the order of these, and who is told what.  The
kernel's side of the mount is made inside the container's mount namespace and
served by a daemon outside of it: when the last process of the container is gone
so is the mount, whatever else was killed, and the daemon writes back and ends.

Threading: one thread, since it forks.
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from layerstore.containers.containers import Container
from layerstore.db.processes import ProcessId
from layerstore.errors import Busy, StoreError
from layerstore.oci.documents import Object
from layerstore.store import Store
from mount_tools.container.init import Ends, Inside, run_outer
from mount_tools.container.mount import (
    container_options,
    refuse_running,
    serve_in_namespace,
    unmount_container,
    wait_for_end,
)
from mount_tools.container.mount_points import Point, with_points
from mount_tools.container.process import REFUSED, CannotStart, Launch
from mount_tools.container.root import Volume, parse_volume
from mount_tools.container.signals import held
from mount_tools.container.started import Started, attend_started, raise_reported
from mount_tools.container.terminal import received, size_of_ours
from mount_tools.container.user_namespace import be_root
from mount_tools.daemon.detach import OK, run_detached
from mount_tools.daemon.handover import await_predecessor
from mount_tools.mount.fuse import mount_on_fd, open_device
from mount_tools.mount.options import MountOptions
from unionfs.errors import MountError
from unionfs.syscalls.mount import MS_NODEV

_SECONDS_TO_DIE = 10.0
_SECONDS_TO_NOTE = 5.0
_LOOK = 0.01

_HOSTNAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def launch_of(config: Object, words: Sequence[str] = ()) -> Launch:
    """Return what a container of `config` runs; `words` replace its Cmd."""
    entrypoint, command = _list(config, "Entrypoint"), _list(config, "Cmd")
    return Launch(
        (*entrypoint, *(words or command)),
        tuple(_list(config, "Env")),
        str(config.get("WorkingDir") or "/"),
        str(config.get("User") or ""),
        config.get("Tty") is True,
    )


def _volumes(host: Object) -> list[Volume]:
    return [parse_volume(text) for text in _list(host, "Binds")]


def _list(config: Object, name: str) -> list[str]:
    found = config.get(name)
    return [str(word) for word in found] if isinstance(found, list) else []


def run_container(
    store: Store,
    container: Container,
    launch: Launch,
    *,
    transport: str = "auto",
    on_start: Callable[[], None] = lambda: None,
) -> int:
    """Run the container to its end; return the exit status of its command.

    `on_start` is called once the command runs.  Raises CannotStart, with which
    status to end where it does not, and StoreError.
    """
    be_root()
    # What comes before the command can be told of it waits.
    with held():
        with store.containers.lock(container):
            container = store.containers.get(container.id)
            refuse_running(container)
            started = _start(store, container, launch, transport)
        try:
            on_start()
            code = attend_started(started)
        finally:
            upper = os.fsencode(store.containers.upper(container))
            _end(started)
            await_predecessor(upper)
        store.containers.finished(container, code)
    return code


def _start(
    store: Store,
    container: Container,
    launch: Launch,
    transport: str,
) -> Started:
    # Devices of an image are no devices of ours; those in /dev are on a filesystem of their own.
    options = container_options(store, container, transport=transport, flags=MS_NODEV)
    directory = store.containers.directory(container)
    point = directory / "merged"
    point.mkdir(mode=0o755, exist_ok=True)
    await_predecessor(os.fsencode(store.containers.upper(container)))
    inside = _inside_of(container, launch, os.fspath(directory))
    wanted = [Point(f"/{name}", folder=False) for name in inside.files]
    wanted += [Point(volume.target, os.path.isdir(volume.source)) for volume in inside.volumes]
    options = dataclasses.replace(options, union=with_points(options.union, directory, wanted))
    try:
        fuse = open_device()
    except MountError as error:
        raise StoreError(str(error)) from None
    try:
        with _Pipes() as pipes:
            outer = os.fork()
            if outer == 0:
                pipes.keep_inner()
                run_outer(
                    inside,
                    lambda: _mounted(fuse, os.fspath(point), options),
                    Ends(
                        pipes.mounted[1],
                        pipes.go[0],
                        pipes.pids[1],
                        pipes.report[1],
                        pipes.terminal[1],
                    ),
                )
            pipes.keep_outer()
            try:
                return _accompany(store, container, outer, pipes, fuse, options, inside)
            except CannotStart as error:
                os.waitpid(outer, 0)
                store.containers.finished(container, error.status)
                raise
            except BaseException:
                with suppress(ProcessLookupError):
                    os.kill(outer, signal.SIGKILL)
                os.waitpid(outer, 0)
                raise
    finally:
        os.close(fuse)


def _inside_of(container: Container, launch: Launch, directory: str) -> Inside:
    hostname = str(container.config.get("Hostname") or container.short)
    if not _HOSTNAME.fullmatch(hostname):
        raise StoreError(f"invalid hostname {hostname!r}: give another with --hostname")
    host = container.config.get("HostConfig")
    host = host if isinstance(host, dict) else {}
    return Inside(
        hostname,
        launch._replace(environment=(f"HOSTNAME={hostname}", *launch.environment)),
        _volumes(host),
        host.get("ReadonlyRootfs") is True,
        _etc_files(directory, hostname),
        size_of_ours(),
    )


def _accompany(
    store: Store,
    container: Container,
    outer: int,
    pipes: _Pipes,
    fuse: int,
    options: MountOptions,
    inside: Inside,
) -> Started:
    """Do our part of a start: serve the mount, write init down, wait for the command."""
    if os.read(pipes.mounted[0], 1) == b"m":
        outcome = run_detached(lambda live: serve_in_namespace(fuse, options, live), keep=fuse)
        if outcome.status != OK:
            raise StoreError(outcome.message)
        os.write(pipes.go[1], b"g")
    pid = os.read(pipes.pids[0], 32)
    if pid:
        # Written down before it begins: it may be all that is left of us.
        store.containers.started(container, int(pid))
        os.write(pipes.go[1], b"s")
    raise_reported(pipes.report[0])
    if not pid:
        raise StoreError(f"container {container.name} ended before it began")
    terminal = received(pipes.terminal[0]) if inside.launch.terminal else None
    return Started(outer, int(pid), terminal)


def _mounted(fuse: int, point: str, options: MountOptions) -> str:
    try:
        mount_on_fd(fuse, point, options)
    except MountError as error:
        raise StoreError(str(error)) from None
    return point


class _Pipes:
    """The pipes between a container's outer process and whoever starts it."""

    def __init__(self) -> None:
        self.mounted, self.go, self.pids, self.report = (os.pipe() for _ in range(4))
        ours, theirs = socket.socketpair()
        self.terminal = ours.detach(), theirs.detach()
        self._open = {*self.mounted, *self.go, *self.pids, *self.report, *self.terminal}

    def keep_inner(self) -> None:
        self._close(self.mounted[0], self.go[1], self.pids[0], self.report[0], self.terminal[0])

    def keep_outer(self) -> None:
        self._close(self.mounted[1], self.go[0], self.pids[1], self.report[1], self.terminal[1])

    def _close(self, *fds: int) -> None:
        for fd in fds:
            self._open.discard(fd)
            os.close(fd)

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(*self._open.copy())


def _etc_files(directory: str, hostname: str) -> dict[str, str]:
    """Return what is shown in the container's /etc, and from where."""
    files = {}
    contents = {
        "hostname": f"{hostname}\n",
        "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{hostname}\n",
    }
    with suppress(OSError), open("/etc/resolv.conf", errors="surrogateescape") as file:
        # A copy: what root of a container writes is not to be the host's.
        contents["resolv.conf"] = file.read()
    for name, content in contents.items():
        path = os.path.join(directory, name)
        with open(path, "w", errors="surrogateescape") as file:
            file.write(content)
        files[f"etc/{name}"] = path
    return files


def _end(started: Started) -> None:
    """Make sure that nothing of the container runs any more."""
    with suppress(ProcessLookupError, ChildProcessError):
        if os.waitpid(started.outer, os.WNOHANG) == (0, 0):
            os.kill(started.outer, signal.SIGKILL)
            os.waitpid(started.outer, 0)


def start_container(store: Store, container: Container, launch: Launch) -> None:
    """Run the container in the background; return once its command runs."""
    result, report = os.pipe()
    # SQLite's locks do not survive a fork, and its memory of them does: each opens its own.
    store.database.close()
    keeper = os.fork()
    if keeper:
        os.close(report)
        os.waitpid(keeper, 0)
        with open(result, "rb") as pipe:
            told = pipe.read()
        if told:
            status, _, text = told.partition(b" ")
            raise CannotStart(int(status), text.decode(errors="surrogateescape"))
        return
    os.close(result)
    _keep(store, container, launch, report)


def _keep(store: Store, container: Container, launch: Launch, report: int) -> None:
    """Be the background process of a container; never returns."""
    status, text = REFUSED, ""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        told = False

        def tell() -> None:
            nonlocal told
            told = True
            os.close(report)

        try:
            run_container(store, container, launch, on_start=tell)
            if container.auto_remove:
                store.containers.remove(store.containers.get(container.id))
        except CannotStart as error:
            status, text = error.status, str(error)
        except (StoreError, OSError) as error:
            text = str(error)
        if text and not told:
            os.write(report, f"{status} {text}".encode(errors="surrogateescape"))
    finally:
        os._exit(0)


def stop_container(store: Store, container: Container, seconds: float) -> None:
    """End the container's command: ask it, and after so many seconds kill it."""
    if not container.running or container.pid is None:
        return
    process = ProcessId(container.pid, container.pid_start or 0)
    name = str(container.config.get("StopSignal") or "SIGTERM")
    name = name if name.startswith("SIG") or name.isdecimal() else f"SIG{name}"
    number = int(name) if name.isdecimal() else getattr(signal, name, signal.SIGTERM)
    with suppress(ProcessLookupError):
        if seconds > 0:
            os.kill(container.pid, number)
        if seconds <= 0 or not wait_for_end(process, seconds):
            os.kill(container.pid, signal.SIGKILL)
            wait_for_end(process, _SECONDS_TO_DIE)
    end = time.monotonic() + _SECONDS_TO_NOTE
    # Whoever ran it writes down how it ended; but he may have been killed, too.
    while time.monotonic() < end and store.containers.exists(container.id):
        if store.containers.get(container.id).finished_ns is not None:
            break
        time.sleep(_LOOK)


def end_container(store: Store, container: Container) -> None:
    """End a container at once, however it runs, as `rm -f` does."""
    if container.mount_point is None:
        stop_container(store, container, 0)
        return
    try:
        unmount_container(container, detach=True)
    except Busy:
        # Whoever still uses it gets errors from now on.
        daemon = ProcessId(container.pid or 0, container.pid_start or 0)
        if daemon.alive():
            with suppress(ProcessLookupError):
                os.kill(daemon.pid, signal.SIGKILL)
            wait_for_end(daemon, _SECONDS_TO_DIE)
