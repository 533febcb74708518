"""`pyunion commit`: make an image of a container, which may be running.

Source: docker/cli `cli/command/container/commit.go`.
"""

from __future__ import annotations

import os

from layerstore.oci.reference import parse_reference
from layerstore.operations.commit import Committed
from layerstore.operations.commit import commit as commit_container
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, note, say
from mount_tools.cli.output.human import human_size
from mount_tools.cli.output.progress import reported
from mount_tools.container.user_namespace import read_all
from unionfs.light_typing import NamedTuple

NAMES_SHOWN = 3


class _Flags(NamedTuple):
    """The flags of `commit`."""

    author: str
    change: tuple[str, ...]
    message: str
    pause: bool
    no_pause: bool
    prune_unchanged: bool
    quiet: bool


@framework.command(
    "Create a new image from a container's changes",
    "CONTAINER [REPOSITORY[:TAG]]",
    least=1,
    most=2,
    completes=named("container"),
)
@framework.text(
    "-a", "--author", says='Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")', default=""
)
@framework.texts("-c", "--change", says="Apply Dockerfile instruction to the created image")
@framework.text("-m", "--message", says="Commit message", default="")
@framework.flag(
    "-p",
    "--pause",
    says="Pause the container while open files are copied (default true)",
    default=True,
)
@framework.flag(
    "--no-pause",
    says="Copy open files before the pause: it is shorter, the content may be older",
)
@framework.flag("--prune-unchanged", says="Leave out files that are the same in the layers below")
@framework.flag("-q", "--quiet", says="Do not show progress or copied files")
@framework.as_one(_Flags)
def commit(invocation: Invocation, operands: tuple[str, ...], flags: _Flags) -> None:
    """The upper of the container becomes a layer by a rename, so the pause does not depend on its
    size. Only files that are open are copied."""
    store = invocation.store
    name, *names = operands
    # docker's client checks the name first too.
    reference = parse_reference(names[0]) if names else None
    container = store.containers.resolve(name)
    read_all(container)
    with reported(quiet=flags.quiet) as report:
        done = commit_container(
            store,
            container,
            reference,
            author=flags.author,
            message=flags.message,
            changes=flags.change,
            pause=flags.pause and not flags.no_pause,
            prune_unchanged=flags.prune_unchanged,
            report=report,
        )
    if done.copied and not flags.quiet:
        note(copied_text(done))
    say(done.image.id)


def copied_text(done: Committed) -> str:
    """Return a message about the open files that were copied, and the pause."""
    names = [os.fsdecode(path) for path in done.copied[:NAMES_SHOWN]]
    if len(done.copied) > NAMES_SHOWN:
        names.append(f"{len(done.copied) - NAMES_SHOWN} more")
    return (
        f"copied because they were open ({human_size(done.copied_bytes, 3)}): {', '.join(names)}; "
        f"the container was paused for {done.pause_ns / 1e6:.1f} ms"
    )
