"""The mount of a stage, in the stage's own process and mount namespace.

Decided here and only here: which filesystem the steps see.  It is the kernel's overlayfs if
the kernel accepts it: that needs no daemon, and each step is as fast as on the disk.
Otherwise it is our union, mounted once for all steps.

When the last process of the namespace ends, even if it is killed, the kernel unmounts the
stage, and its daemon ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from layerstore.containers.container import Container
from layerstore.store import Store
from mount_tools.build.kernel_stage import KernelStage, has_whiteouts_of_aufs, is_possible
from mount_tools.build.messages import Link
from mount_tools.container.system_mounts import make_private
from unionfs.light_typing import TYPE_CHECKING, NamedTuple, Protocol
from unionfs.syscalls.namespaces import (
    CLONE_NEWNS,
    chroot_to,
    leave_chroot,
    mount_namespace,
    unshare,
)

if TYPE_CHECKING:
    from mount_tools.build.fuse_stage import FuseStage
    from mount_tools.mount.mount_options import MountOptions


class StagePlan(NamedTuple):
    """What a stage's process needs to mount its stage; `lowers` has the topmost first.

    `files` are the files of /etc that a RUN sees.  `options` returns those of our mount.
    `of_kernel` tells whether the kernel may accept the stage.
    """

    directory: Path
    lowers: tuple[Path, ...]
    upper: Path
    files: dict[str, str]
    options: Callable[[], MountOptions]
    of_kernel: bool

    @property
    def hostname(self) -> str:
        """What a RUN sees as the name of its machine.

        It is always the same: a program that writes it makes the same layer again.
        """
        return "build"

    @property
    def point(self) -> Path:
        """Where the stage is mounted."""
        return self.directory / "merged"

    @property
    def frozen(self) -> Path:
        """The directory of the layers that the stage makes."""
        return self.directory / "layers"

    @property
    def points(self) -> Path:
        """The directory of a lower with the mount points of a RUN that no layer has."""
        return self.directory / "points"

    @property
    def workspace(self) -> Path:
        """A directory outside of the stage, on which a RUN can mount a tmpfs."""
        return self.directory / "workspace"


class Surface(Protocol):
    """A mounted stage as its steps see it: its root, and `freeze` to end a step."""

    root: int
    plan: StagePlan

    @property
    def any_names(self) -> bool:
        """Whether a step can make names that begin with .wh., which mean whiteouts in layers."""

    @property
    def shows_points(self) -> bool:
        """Whether it shows mount points that are in none of the layers."""

    def freeze(self) -> int | None:
        """Make a layer of the changes; return its number, None if nothing was changed."""


def prepare_stage(
    store: Store,
    container: Container,
    steps: int,
    *,
    runs: bool,
    extra_hosts: tuple[str, ...] = (),
) -> StagePlan:
    """Make what the mount of a stage of so many steps needs; with `runs` also for a RUN.

    `extra_hosts` are lines `name:address` for the /etc/hosts of a RUN.  Raises StoreError.
    """
    directory = container.directory
    lowers = tuple(store.containers.lowers_to_mount(container))
    layers = store.layers.chain(container.base)
    plan = StagePlan(
        directory,
        lowers,
        container.upper,
        {},
        lambda: _fuse_options(store, container),
        is_possible(lowers, steps) and not any(map(has_whiteouts_of_aufs, layers)),
    )
    for made in (plan.point, plan.workspace):
        made.mkdir(mode=0o755, exist_ok=True)
    if runs:
        from mount_tools.container.etc_files import etc_files
        from mount_tools.container.host_config import HostConfig

        host = HostConfig(extra_hosts=extra_hosts)
        plan = plan._replace(files=etc_files(os.fspath(directory), plan.hostname, host))
    if runs and not plan.of_kernel:
        options = plan.options()
        plan = plan._replace(options=lambda: options)
    return plan


def _fuse_options(store: Store, container: Container) -> MountOptions:
    from mount_tools.build.fuse_stage import stage_options

    return stage_options(store, container)


class StageMount:
    """The stage's mount.  Made in the stage's process, it enters a mount namespace of its own."""

    def __init__(self, plan: StagePlan, builder: Link) -> None:
        self._plan = plan
        self._builder = builder
        self._kernel: KernelStage | None = None
        self._ours: FuseStage | None = None
        # While PyUnion is in a chroot, not only the mounts of the chroot must become private.
        unshare(CLONE_NEWNS)
        chroot = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        namespace = mount_namespace()
        leave_chroot(namespace)
        make_private()
        chroot_to(chroot)
        os.close(chroot)
        os.close(namespace)
        if plan.of_kernel:
            self._kernel = KernelStage(plan)

    def surface(self, *, runs: bool) -> Surface:
        """Return the stage for the next step, which `runs` a command or does not.

        Raises StoreError and OSError if it cannot be mounted.
        """
        if self._kernel is not None:
            if self._kernel.mount(runs=runs):
                return self._kernel
            self._kernel.end()
            self._kernel = None
        if self._ours is None:
            from mount_tools.build.fuse_stage import FuseStage

            self._ours = FuseStage(self._plan, self._builder)
        return self._ours
