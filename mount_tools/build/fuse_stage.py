"""A stage that the kernel's overlayfs does not take: our union, one mount for all its steps.

The stage's process mounts it and sends /dev/fuse to the builder, which starts the daemon
outside of the stage's mount namespace.

Decided here and only here: the options of that mount.  It is volatile, since a stage that is
half built when the machine stops is not kept; a layer is synced before its row is written.

Source: overlayfs.rst "Volatile mount".
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from layerstore.containers import control_client as control
from layerstore.containers.container import Container, socket_path
from layerstore.containers.control_client import NoMount
from layerstore.errors import Busy, StoreError
from layerstore.store import Store
from mount_tools.build.messages import Link, Serving, Unserved
from mount_tools.build.step_end import HELD, PATIENCE, describe_root, is_changed
from mount_tools.container.mount_points import with_points
from mount_tools.container.program import own_interpreter
from mount_tools.container.root_daemon import FuseRoot, serve_root
from mount_tools.container.root_options import Point, container_options
from mount_tools.mount.fuse import open_device
from mount_tools.mount.mount_options import MountOptions
from unionfs.errors import MountError
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls.mount import MS_NODEV

if TYPE_CHECKING:
    from mount_tools.build.stage_mount import StagePlan

_SECONDS_TO_LISTEN = 20.0


def stage_options(store: Store, container: Container) -> MountOptions:
    """Return the options of the stage's mount over the layers that `container` has now."""
    options = container_options(store, container, flags=MS_NODEV)
    return options._replace(union=options.union._replace(volatile=True))


def serve_stage(plan: StagePlan, fuse: int) -> None:
    """Start the daemon of a stage, in the builder; closes `fuse`.

    Raises StoreError.
    """
    try:
        options = plan.options()
        if plan.files:
            # The mount points of what a RUN sees beside the stage, as /proc.
            wanted = [Point(f"/{name}", folder=False) for name in plan.files]
            union = with_points(options.union, plan.directory, wanted)
            options = options._replace(union=union)
        serve_root(FuseRoot(fuse, os.fspath(plan.point), options))
    finally:
        os.close(fuse)


class FuseStage:
    """The stage, mounted by us, in its own process; `root` is its root, an O_PATH descriptor."""

    any_names = False

    def __init__(self, plan: StagePlan, builder: Link) -> None:
        """Mount it, and wait until it is served.

        Raises StoreError and OSError, and BrokenPipeError if the builder has ended.
        """
        own_interpreter()
        try:
            fuse = open_device()
        except MountError as error:
            raise StoreError(str(error)) from None
        try:
            FuseRoot(fuse, os.fspath(plan.point), plan.options()).mount()
            self.root = os.open(plan.point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            builder.send(Unserved(), fuse)
        finally:
            # While we hold it, the kernel does not end the connection when the daemon dies.
            os.close(fuse)
        received = builder.receive()
        if received is None:
            raise BrokenPipeError
        assert isinstance(received[0], Serving), "the builder sends nothing else"
        self.plan = plan
        self._upper = plan.upper
        self._frozen = plan.frozen
        self._control = socket_path(plan.directory)
        self._last = 0
        self._was = describe_root(plan.upper)

    @property
    def shows_points(self) -> bool:
        """Whether it shows mount points that are in none of the layers."""
        return bool(self.plan.files)

    def freeze(self) -> int | None:
        """Make a layer of the changes since the last one; return its number, None if it is empty.

        All processes that the stage ran have ended.
        """
        if not is_changed(self._upper, self._was):
            return None
        self._wait_until_released()
        place = self._frozen / str(self._last + 1)
        place.mkdir(mode=0o700)
        try:
            control.freeze(self._control, place / "diff")
        except BaseException:
            with suppress(OSError):
                place.rmdir()
            raise
        self._last += 1
        self._was = describe_root(self._upper)
        return self._last

    def _wait_until_released(self) -> None:
        """Wait until the daemon knows that the files which the step wrote are closed.

        Raises StoreError if a process outside, which the step has sent a descriptor, has one open.

        The kernel sends RELEASE after close(2) has returned.  If the daemon takes a file for open,
        the freeze copies it into the next layer too.
        """
        end = time.monotonic() + PATIENCE
        started = time.monotonic() + _SECONDS_TO_LISTEN
        while True:
            try:
                if not control.writing(self._control):
                    return
                if time.monotonic() > end:
                    raise StoreError(HELD)
            except (NoMount, Busy):
                # The daemon begins to listen some time after it begins to serve.
                if time.monotonic() > started:
                    raise
            time.sleep(0.001)
