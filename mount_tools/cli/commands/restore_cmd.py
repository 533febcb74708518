"""`pyunion restore`: undo a container's changes to paths, so that they are as in the image.

docker and podman have no such command.
"""

from __future__ import annotations

import os
import sys

from mount_tools.cli import framework
from mount_tools.cli.commands.diff_cmd import container_changes
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.terminal import one_line
from mount_tools.container.restoring import restorer


@framework.command(
    "Undo a container's changes to paths, so that they are as in its image",
    "CONTAINER PATH...",
    least=2,
    most=None,
    completes=named("container", last=0),
)
@framework.flag("--dry-run", says="Print what would be undone, as `diff` does, and change nothing")
def restore(invocation: Invocation, operands: tuple[str, ...], dry_run: bool) -> None:
    """Restores files that the container changed or deleted at PATH, and removes files that only
    the container has; if PATH is a directory, also everything in it. The container may run or
    be mounted, and files may be open: a program keeps the file that it has open. If the
    container runs, mounts in PATH stay, and the directories above a mount keep their mode and
    owner. Prints each path that was restored. Paths that are as in the image are not touched.
    A directory of the image that the container has renamed is not restored on its own, since it
    would be at two paths: also name the path that it has now, which removes it there.
    Changes that were committed count as part of the image."""
    store = invocation.store
    container = store.containers.resolve(operands[0])
    shown = one_line if sys.stdout.isatty() else str
    changed: list[bytes] = []

    def restore_one(path: str) -> None:
        for plain in work.restore(path, dry_run=dry_run, along=along):
            changed.append(os.fsencode(plain))
            if not dry_run:
                say(shown(plain))

    with restorer(store, container) as work:
        along = work.agreed(operands[1:]) if len(operands) > 2 else ()
        invocation.each(operands[1:], restore_one)
    if dry_run and changed:
        for kind, path in container_changes(store, store.containers.get(container.id)):
            if any(path == at or path.startswith(at + b"/") for at in changed):
                say(f"{kind} {shown(os.fsdecode(path))}")
