"""What a stage's process does for each instruction that changes files without a command.

Threading: one thread, in the stage's process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from layerstore.build.copying import Copier, place_of
from layerstore.build.destination import Destination
from layerstore.build.owner import find_owner, read_mode
from layerstore.build.sources import Sources
from layerstore.containerfile.instructions import Add, Copy
from layerstore.layer.metadata import Metadata
from mount_tools.build.sources import Reached
from mount_tools.build.stage_mount import Surface
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.privilege import is_machine_root

if TYPE_CHECKING:
    from mount_tools.container.rights import Rights

Work = Callable[[Surface], None]


class Surroundings(NamedTuple):
    """What the tasks of a stage have in common: see `tasks`.

    `caches` is the directory of the store's cache mounts, `secrets` their values by id,
    `clock_ns` the time of new files, None for the present; `network` is that of a RUN which
    does not choose one, `rights` those of each RUN, None for the usual ones.
    """

    reached: Reached
    output: int
    caches: Path
    secrets: Mapping[str, bytes]
    clock_ns: int | None
    network: str = "default"
    rights: Rights | None = None


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
            from layerstore.build.adding import add_archives

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
