"""What a stage's process does for each instruction that changes files.

Threading: one thread, in the stage's process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from layerstore.build.adding import add_archives
from layerstore.build.copying import Copier, place_of
from layerstore.build.destination import Destination
from layerstore.build.owner import find_owner, read_mode
from layerstore.build.sources import Sources
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import (
    Add,
    BindMount,
    CacheMount,
    Copy,
    Mount,
    Run,
    SecretMount,
    TmpfsMount,
)
from layerstore.containerfile.stage_state import SCRIPT_DIRECTORY, Program
from layerstore.layer.metadata import Metadata
from mount_tools.build.attach import Attached, Bind, Scratch, Secret, Tmpfs
from mount_tools.build.run_step import run_step
from mount_tools.build.sources import Reached, copy_whole
from mount_tools.build.stage import StepFailed
from mount_tools.build.stage_mount import MountedStage, Surface
from mount_tools.container.process import Launch
from unionfs.syscalls.privilege import is_machine_root

Work = Callable[[Surface], None]


class Surroundings(NamedTuple):
    """What the tasks of a stage have in common: see `tasks`.

    `caches` is the directory of the store's cache mounts, `secrets` their values by id,
    `clock_ns` the time of new files, None for the present.
    """

    reached: Reached
    output: int
    caches: Path
    secrets: Mapping[str, bytes]
    clock_ns: int | None


def run_task(run: Run, program: Program, user: str, workdir: str, around: Surroundings) -> Work:
    """Return the function that does a RUN."""

    def work(stage: Surface) -> None:
        assert isinstance(stage, MountedStage), "a stage that runs something is ours"
        with ExitStack() as stack:
            mounts: list[Attached] = []
            environment = list(program.environment)
            for mount in run.mounts:
                found = _attached(run, mount, around, stack)
                if found is not None:
                    mounts.append(found)
                if isinstance(mount, SecretMount) and mount.variable:
                    secret = around.secrets.get(mount.id)
                    if secret is not None:
                        environment.append(f"{mount.variable}={os.fsdecode(secret)}")
            if program.script is not None:
                content = program.script.content.encode("utf-8", "surrogateescape")
                path = f"{SCRIPT_DIRECTORY}/{program.script.name}"
                mounts.append(Secret(path, content, 0o755))
            launch = Launch(tuple(program.argv), tuple(environment), workdir, user)
            status = run_step(
                stage.around,
                stage.root,
                launch,
                mounts,
                around.output,
                network=run.network != "none",
            )
            if status:
                raise StepFailed(status)

    return work


def _attached(run: Run, mount: Mount, around: Surroundings, stack: ExitStack) -> Attached | None:
    match mount:
        case BindMount(target, source, stage, read_only):
            base = around.reached.base(stage)
            if read_only:
                return Bind(base, source, target, read_only=True)
            return Scratch(base, source, target)
        case CacheMount():
            path = stack.enter_context(_cache(mount, around))
            return Bind(path, ".", mount.target, mount.read_only)
        case TmpfsMount(target, size):
            return Tmpfs(target, size)
        case SecretMount():
            data = around.secrets.get(mount.id)
            if data is None:
                if mount.required:
                    raise ContainerfileError(run.at, f"secret {mount.id}: not found")
                return None
            if not mount.target:
                return None
            return Secret(mount.target, data, mount.mode, mount.uid, mount.gid)


@contextmanager
def _cache(mount: CacheMount, around: Surroundings) -> Iterator[str]:
    """Yield the directory of a cache; unless it is shared, no other RUN uses it meanwhile."""
    name = hashlib.sha256(os.fsencode(mount.id)).hexdigest()[:32]
    number = 0
    while True:
        path = around.caches / (name if not number else f"{name}-{number}")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if mount.sharing == "private":
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    number += 1
                    continue
            elif mount.sharing == "locked":
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_dir():
                _new_cache(mount, path, around)
            yield os.fspath(path)
            return
        finally:
            os.close(lock)


def _new_cache(mount: CacheMount, path: Path, around: Surroundings) -> None:
    made = path.with_name(f"{path.name}.{os.getpid()}")
    made.mkdir()
    fd = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if mount.stage:
            copy_whole(around.reached.tree(mount.stage), fd, mount.source)
        if is_machine_root():
            os.fchown(fd, mount.uid, mount.gid)
        os.fchmod(fd, mount.mode)
    finally:
        os.close(fd)
    try:
        made.rename(path)
    except OSError:
        if not path.is_dir():  # another build has made it first
            raise


def copy_task(
    one: Copy | Add, sources: Sources, seen: list[bytes], workdir: str, around: Surroundings
) -> Work:
    """Return the function that does a COPY or ADD of `sources`; `seen` is what the key covers."""

    def work(stage: Surface) -> None:
        owner = find_owner(stage.root, one.owner, one.at) if one.owner else None
        mode = read_mode(one.mode, one.at) if one.mode else None
        copier = Copier(destination(stage, around), owner, mode)
        left, left_seen = sources, seen
        if isinstance(one, Add):
            left, left_seen = add_archives(one, left, left_seen, copier, place_of(one, workdir))
        copier.copy(one, left, left_seen, workdir)
        for path in copier.skipped:
            os.write(around.output, f"{path} is a socket and is not copied\n".encode())

    return work


def workdir_task(path: str, around: Surroundings) -> Work:
    """Return the function that makes the directory of a WORKDIR if it is missing."""

    def work(stage: Surface) -> None:
        fd, _ = destination(stage, around).folder(path)
        os.close(fd)

    return work


def destination(stage: Surface, around: Surroundings) -> Destination:
    """Return the stage as a tree to copy into."""
    return Destination(stage.root, Metadata(privileged=is_machine_root()), around.clock_ns)
