"""The key of a step in the build cache: what the step is, and the layers below it.

Decided here and only here: what a step depends on.  A RUN depends on its words, its
environment, arguments, user and directory, and on what is mounted; a COPY on what it copies,
how and where to; an instruction that changes only the configuration on all of that before it.
Each depends on SOURCE_DATE_EPOCH, which is the newest time in its layer and in its history entry.

Threading: immutable.
"""

from __future__ import annotations

from layerstore.containerfile.instructions import Add, Copy, Run
from layerstore.containerfile.stage_state import Program
from layerstore.light_json import dumps
from layerstore.oci.digest import Digest
from layerstore.oci.documents import Object
from layerstore.oci.run_config import RunConfig
from layerstore.oci.sha256 import sha256_hex
from unionfs.light_typing import NamedTuple

_VERSION = "1"


class Definition(NamedTuple):
    """The text that defines a step."""

    words: tuple[str, ...]

    def key(self, below: Digest | None, epoch_ns: int | None = None) -> str:
        """Return the key of the step on top of the chain `below`, for that SOURCE_DATE_EPOCH."""
        epoch = [] if epoch_ns is None else ["epoch", epoch_ns]
        text = dumps([_VERSION, below or "", *self.words, *epoch])
        return sha256_hex(text.encode())


def of_run(
    run: Run, program: Program, config: RunConfig, created_by: str, around: list[str]
) -> Definition:
    """Return the definition of a RUN; `around` identifies what is mounted, and its content."""
    script = program.script.content if program.script is not None else ""
    return Definition(
        (
            "RUN",
            created_by,
            # In `created_by` the value of an argument may look like further arguments.
            dumps([program.argv, script, sorted(config.env), program.arguments]),
            config.user,
            config.working_dir,
            run.network,
            *around,
        )
    )


def of_copy(one: Copy | Add, workdir: str, sources: str) -> Definition:
    """Return the definition of a COPY or ADD; `sources` identify what is copied."""
    return Definition(
        (
            type(one).__name__,
            sources,
            *(one.sources if isinstance(one, Copy) and one.parents else ()),
            one.destination,
            workdir,
            one.owner,
            one.mode,
            dumps(one.exclude),
            str(one.parents if isinstance(one, Copy) else one.unpack),
        )
    )


def of_workdir(path: str, created_by: str, before: Object) -> Definition:
    """Return the definition of a WORKDIR, whose directory is `path`."""
    return Definition(("WORKDIR", path, created_by, dumps(before, sort_keys=True)))


def of_config(before: Object, created_by: str) -> Definition:
    """Return the definition of an instruction that changes the configuration `before`."""
    return Definition(("CONFIG", dumps(before, sort_keys=True), created_by))
