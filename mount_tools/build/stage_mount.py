"""The mount of a stage, in the stage's own process and mount namespace.

Decided here and only here: which filesystem a step sees.  Until the first RUN it is the
kernel's overlayfs, if the kernel accepts it: that needs no daemon, and a COPY is as fast as
on the disk.  From the first RUN on it is our union, mounted once for all steps that are left.

When the last process of the namespace ends, even if it is killed, the kernel unmounts the
stage, and its daemon ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from layerstore.containers.containers import Container
from layerstore.store import Store
from mount_tools.build.kernel_stage import KernelStage, is_possible
from mount_tools.build.messages import Link
from mount_tools.container.system_mounts import make_private
from unionfs.syscalls.namespaces import (
    CLONE_NEWNS,
    chroot_to,
    leave_chroot,
    mount_namespace,
    unshare,
)

if TYPE_CHECKING:
    from mount_tools.build.fuse_stage import FuseStage
    from mount_tools.mount.options import MountOptions


class Surface(Protocol):
    """A mounted stage as COPY and WORKDIR see it: its root, and `freeze` to end a step."""

    root: int

    def freeze(self) -> int | None:
        """Make a layer of the changes; return its number, None if nothing was changed."""


class StagePlan(NamedTuple):
    """What a stage's process needs to mount its stage; `lowers` has the topmost first.

    `files` are the files of /etc that a RUN sees.  `options` returns those of our mount.
    """

    directory: Path
    lowers: tuple[Path, ...]
    upper: Path
    files: dict[str, str]
    options: Callable[[], MountOptions]

    @property
    def point(self) -> Path:
        """Where the stage is mounted."""
        return self.directory / "merged"

    @property
    def frozen(self) -> Path:
        """The directory of the layers that the stage makes."""
        return self.directory / "layers"

    @property
    def workspace(self) -> Path:
        """A directory outside of the stage, on which a RUN can mount a tmpfs."""
        return self.directory / "workspace"


def prepare_stage(
    store: Store, container: Container, *, runs: bool, extra_hosts: tuple[str, ...] = ()
) -> StagePlan:
    """Make what the stage's mount needs; with `runs` also for a RUN.

    `extra_hosts` are lines `name:address` for the /etc/hosts of a RUN.  Raises StoreError.
    """
    directory = store.containers.directory(container)
    lowers = tuple(store.containers.lowers(container))
    if not lowers:
        lowers = (directory / "empty",)
        lowers[0].mkdir(mode=0o755, exist_ok=True)
    plan = StagePlan(
        directory,
        lowers,
        store.containers.upper(container),
        {},
        lambda: _fuse_options(store, container),
    )
    for made in (plan.point, plan.workspace):
        made.mkdir(mode=0o755, exist_ok=True)
    if runs:
        from mount_tools.build.fuse_stage import run_files

        options = plan.options()
        files = run_files(directory, extra_hosts)
        plan = plan._replace(files=files, options=lambda: options)
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
        if is_possible(plan.lowers):
            self._kernel = KernelStage(plan.point, plan.lowers, plan.upper, plan.frozen)

    @property
    def is_ours(self) -> bool:
        """Whether our union is mounted; if not, its lowers are opened by their paths later."""
        return self._ours is not None

    def surface(self, *, runs: bool) -> Surface:
        """Return the stage for the next step, which `runs` a command or does not.

        Raises StoreError and OSError if it cannot be mounted.
        """
        if self._ours is None:
            if not runs and self._kernel is not None and self._kernel.mount():
                return self._kernel
            from mount_tools.build.fuse_stage import FuseStage

            lowers, last = self._plan.lowers, 0
            if self._kernel is not None:
                lowers, last = self._kernel.end()
                self._kernel = None
            self._ours = FuseStage(self._plan, lowers, last, self._builder)
        return self._ours
