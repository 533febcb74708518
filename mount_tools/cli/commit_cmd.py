"""`pyunion commit`: a new image from what a container is now.

Source: docker/cli `cli/command/container/commit.go`.
Differs from docker: a running container is not stopped for it; what files open for
writing had to be copied, and how long requests waited for that, is said on stderr.
"""

from __future__ import annotations

import os
import sys

from layerstore.commit import Committed
from layerstore.commit import commit as commit_container
from layerstore.reference import parse_reference
from mount_tools.cli import words
from mount_tools.cli.complete import named
from mount_tools.cli.human import human_size
from mount_tools.cli.progress import reported
from mount_tools.cli.session import Session, pass_session, say

NOTABLE_NS = 10_000_000


@words.command(
    "Create a new image from a container's changes",
    "CONTAINER [REPOSITORY[:TAG]]",
    least=1,
    most=2,
    completes=named("container"),
)
@words.text("-a", "--author", says='Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")')
@words.texts("-c", "--change", says="Apply Dockerfile instruction to the created image")
@words.text("-m", "--message", says="Commit message")
@words.flag(
    "-p",
    "--pause",
    default=True,
    says="Let requests wait while files open for writing are copied (default true)",
)
@words.flag("--no-pause", says="Copy them before that, while they may be written to")
@words.flag("--prune-unchanged", says="Leave out what is as in the layers beneath")
@words.flag("-q", "--quiet", says="Do not show progress")
@pass_session
def commit(
    session: Session,
    operands: tuple[str, ...],
    author: str | None,
    change: tuple[str, ...],
    message: str | None,
    pause: bool,
    no_pause: bool,
    prune_unchanged: bool,
    quiet: bool,
) -> None:
    name, *names = operands
    reference = parse_reference(names[0]) if names else None
    container = session.store.containers.resolve(name)
    with reported(quiet=quiet) as progress:
        done = commit_container(
            session.store,
            container,
            reference,
            author=author or "",
            message=message or "",
            changes=change,
            pause=pause and not no_pause,
            prune_unchanged=prune_unchanged,
            progress=progress,
        )
    _tell_wait(done)
    say(done.image.id)


def _tell_wait(done: Committed) -> None:
    if done.pause_ns < NOTABLE_NS or not done.copied:
        return
    names = ", ".join(os.fsdecode(path) for path in done.copied[:3])
    more = f" and {len(done.copied) - 3} more" if len(done.copied) > 3 else ""
    print(
        f"requests waited {done.pause_ns / 1e6:.0f} ms while {human_size(done.copied_bytes)} of "
        f"files open for writing were copied: {names}{more}",
        file=sys.stderr,
    )
