"""What a stage's process does for a RUN: its mounts, its environment, its command.

Decided here and only here: what each `--mount` becomes, and how builds share a cache mount.

Threading: one thread, in the stage's process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from pathlib import Path

from layerstore.build_caches import claimed
from layerstore.containerfile.errors import ContainerfileError
from layerstore.containerfile.instructions import (
    BindMount,
    CacheMount,
    Mount,
    Run,
    SecretMount,
    TmpfsMount,
)
from layerstore.containerfile.stage_state import SCRIPT_DIRECTORY, Program
from layerstore.db.beside import NewDirectory
from mount_tools.build.attach import Attached, Bind, Scratch, Secret, Tmpfs
from mount_tools.build.run_step import run_step
from mount_tools.build.sources import copy_whole
from mount_tools.build.stage import StepFailed
from mount_tools.build.stage_mount import Surface
from mount_tools.build.tasks import Surroundings, Work
from mount_tools.container.process import Launch, filter_of_calls
from mount_tools.container.rights import USUAL, Rights
from unionfs.syscalls.privilege import is_machine_root


def run_task(
    run: Run,
    program: Program,
    user: str,
    workdir: str,
    seen: Mapping[str, bytes],
    around: Surroundings,
) -> Work:
    """Return the function that does a RUN.

    `seen` is what the digests of the sources in the context, by their paths, were computed of.
    """

    rights = around.rights or USUAL

    def work(stage: Surface) -> None:
        with ExitStack() as stack:
            mounts: list[Attached] = []
            environment = [f"HOSTNAME={stage.plan.hostname}", *program.environment]
            for mount in run.mounts:
                found = _attached(run, mount, seen, around, stack)
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
            launch = Launch(
                tuple(program.argv),
                tuple(environment),
                workdir,
                user,
                rights=rights,
                filter_calls=_filter(rights, os.fspath(around.caches.parent)),
            )
            status = run_step(
                stage.plan,
                stage.root,
                launch,
                mounts,
                around.output,
                network="none" not in (around.network, run.network),
            )
            if status:
                raise StepFailed(status)

    return work


@lru_cache(1)
def _filter(rights: Rights, store: str) -> Callable[[], None] | None:
    """Return what loads the filter of calls that each RUN has, None if there is none."""
    return filter_of_calls(rights, store)


def _attached(
    run: Run, mount: Mount, seen: Mapping[str, bytes], around: Surroundings, stack: ExitStack
) -> Attached | None:
    match mount:
        case BindMount(target, source, stage, read_only):
            if stage:
                base = around.reached.base(stage)
            else:
                base, source = around.reached.copied(source, seen[source])
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
    with claimed(around.caches, mount.id, mount.sharing) as path:
        if not path.is_dir():
            _new_cache(mount, path, around)
        yield os.fspath(path)


def _new_cache(mount: CacheMount, path: Path, around: Surroundings) -> None:
    with closing(NewDirectory(path)) as made:
        if mount.stage:
            copy_whole(around.reached.tree(mount.stage), made.fd, mount.source)
        if is_machine_root():
            os.fchown(made.fd, mount.uid, mount.gid)
        os.fchmod(made.fd, mount.mode)
        try:
            made.path.rename(path)
        except OSError:
            if not path.is_dir():  # another build has made it first
                raise
