"""The mount of a stage: one union for all of its steps, in a mount namespace of its own.

Decided here and only here: the options of that mount, and the order in which it starts.
The builder forks the stage's process, which makes the namespace and mounts; the builder
then starts the daemon, outside of that namespace.  When the last process of the namespace
ends, even if it is killed, the kernel unmounts the stage, and the daemon ends.

The mount is volatile, since a stage that is half built when the machine stops is not kept;
a layer is synced before its row is written.

Source: overlayfs.rst "Volatile mount".
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from layerstore.containers import control_client as control
from layerstore.containers.containers import Container, socket_path
from layerstore.containers.control_client import NoMount
from layerstore.errors import Busy, StoreError
from layerstore.store import Store
from mount_tools.build.run_step import Surroundings
from mount_tools.container.handshake import Channel, Mounted, Served, Silence, channel, end_with
from mount_tools.container.host_config import HostConfig
from mount_tools.container.init import mount_root
from mount_tools.container.mount import container_options
from mount_tools.container.mount_points import Point, with_points
from mount_tools.container.process import in_child
from mount_tools.container.run import FuseRoot, etc_files, serve_root
from mount_tools.container.started import end_started, silence_text
from mount_tools.daemon.after_fork import close_all_but
from mount_tools.mount.fuse import open_device
from unionfs.errors import MountError
from unionfs.syscalls.mount import MS_NODEV
from unionfs.syscalls.namespaces import CLONE_NEWNS, chroot_to, unshare
from unionfs.syscalls.xattr import list_fd

_HOSTNAME = "build"  # always the same: a program that writes it makes the same layer again
_SECONDS_TO_RELEASE = 5.0
_SECONDS_TO_LISTEN = 20.0
_OWN_PREFIXES = ("trusted.overlay.", "user.overlay.")


class StageMount(NamedTuple):
    """What the stage's process needs to mount its stage."""

    root: FuseRoot
    files: dict[str, str]
    workspace: str
    upper: Path
    frozen: Path
    control: Path


def prepare_stage(store: Store, container: Container, *, runs: bool) -> StageMount:
    """Make what the stage's mount needs; the caller closes `root.fuse`.

    If `runs` is true, the stage gets mount points for /proc, /dev and the like.  Raises
    StoreError.
    """
    directory = store.containers.directory(container)
    options = container_options(store, container, flags=MS_NODEV)
    point, workspace = directory / "merged", directory / "workspace"
    for made in (point, workspace):
        made.mkdir(mode=0o755, exist_ok=True)
    union = options.union._replace(volatile=True)
    files: dict[str, str] = {}
    if runs:
        files = etc_files(os.fspath(directory), _HOSTNAME, HostConfig())
        wanted = [Point(f"/{name}", folder=False) for name in files]
        union = with_points(union, directory, wanted)
    options = options._replace(union=union)
    try:
        fuse = open_device()
    except MountError as error:
        raise StoreError(str(error)) from None
    return StageMount(
        FuseRoot(fuse, os.fspath(point), options),
        files,
        os.fspath(workspace),
        store.containers.upper(container),
        directory / "layers",
        socket_path(directory),
    )


def start_stage(
    mount: StageMount, work: Callable[[MountedStage], NoReturn], keep: Sequence[int]
) -> int:
    """Fork the process of a stage, which mounts it and does `work`; return its pid.

    `keep` are the builder's descriptors that it needs.  Returns once the mount is served.
    Closes `root.fuse`.  Raises StoreError; the process has then ended.
    """
    builder = os.pidfd_open(os.getpid())
    ours, theirs = channel()
    child = os.fork()
    if child == 0:
        ours.close()
        in_child(lambda: _be_stage(mount, builder, theirs, work, keep), theirs)
    theirs.close()
    os.close(builder)
    try:
        ours.watch(child)
        ours.expect(Mounted)
        serve_root(mount.root)
        ours.send(Served())
    except Silence:
        raise StoreError(silence_text("the process of a stage", end_started(child))) from None
    except BaseException:
        end_started(child)
        raise
    finally:
        ours.close()
        os.close(mount.root.fuse)
    return child


def _be_stage(
    mount: StageMount,
    builder: int,
    to: Channel,
    work: Callable[[MountedStage], NoReturn],
    keep: Sequence[int],
) -> NoReturn:
    end_with(builder)
    # A connection ends only if no other process holds a copy of its end.
    close_all_but(to.fileno(), mount.root.fuse, *keep)
    unshare(CLONE_NEWNS)
    places = mount_root(mount.root)
    chroot_to(places.chroot)
    os.close(places.chroot)
    os.close(places.namespace)
    # While we hold it, the kernel does not end the connection when the daemon dies.
    os.close(mount.root.fuse)
    to.send(Mounted())
    to.expect(Served)
    to.close()
    work(MountedStage(mount, places.root))


class Surface(Protocol):
    """A mounted stage as COPY and WORKDIR see it: its root, and `freeze` to end a step."""

    root: int

    def freeze(self) -> int | None:
        """Make a layer of the changes; return its number, None if nothing was changed."""


class MountedStage:
    """The mounted stage, in its own process; `root` is its root, an O_PATH descriptor."""

    def __init__(self, mount: StageMount, root: int) -> None:
        self.root = root
        self.around = Surroundings(mount.root.point, _HOSTNAME, mount.files, mount.workspace)
        self._mount = mount
        self._last = 0
        self._was = describe_root(mount.upper)

    def freeze(self) -> int | None:
        """Make a layer of the changes since the last one; return its number, None if it is empty.

        All processes that the stage ran have ended.
        """
        if not os.listdir(self._mount.upper) and describe_root(self._mount.upper) == self._was:
            return None
        self._wait_until_released()
        self._last += 1
        place = self._mount.frozen / str(self._last)
        place.mkdir(mode=0o700)
        try:
            control.freeze(self._mount.control, place / "diff")
        except BaseException:
            with suppress(OSError):
                place.rmdir()
            raise
        self._was = describe_root(self._mount.upper)
        return self._last

    def _wait_until_released(self) -> None:
        """Wait until the daemon knows that the files which the step wrote are closed.

        The kernel sends RELEASE after close(2) has returned.  If the daemon takes a file for open,
        the freeze copies it into the next layer too.
        """
        end = time.monotonic() + _SECONDS_TO_RELEASE
        started = time.monotonic() + _SECONDS_TO_LISTEN
        while True:
            try:
                if not control.writing(self._mount.control) or time.monotonic() > end:
                    return
            except (NoMount, Busy):
                # The daemon begins to listen some time after it begins to serve.
                if time.monotonic() > started:
                    raise
            time.sleep(0.001)


def describe_root(upper: Path) -> tuple[object, ...]:
    """Return the attributes of an upper's root that a step can change."""
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        names = [name for name in list_fd(fd) if not name.startswith(_OWN_PREFIXES)]
        values = [(name, os.getxattr(fd, name)) for name in names]
        return found.st_mode, found.st_uid, found.st_gid, values
    finally:
        os.close(fd)
