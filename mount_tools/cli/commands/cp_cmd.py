"""`pyunion cp`: files between a container and this machine.

Source: docker/cli `cli/command/container/cp.go`.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

from layerstore.errors import StoreError
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.invocation import Invocation
from mount_tools.cli.output.standard_output import archive_output
from mount_tools.container.transfer import (
    End,
    copy,
    root_of,
    root_of_the_host,
    unpack_archive,
    write_archive,
)


@framework.command(
    "Copy files or folders between a container and the local filesystem",
    "CONTAINER:SRC_PATH DEST_PATH|- or SRC_PATH|- CONTAINER:DEST_PATH",
    least=2,
    most=2,
    completes=named("container"),
)
@framework.flag("-a", "--archive", says="Archive mode (copy all uid/gid information)")
@framework.flag("-L", "--follow-link", says="Always follow symbol link in SRC_PATH")
@framework.flag("-q", "--quiet", says="Accepted without effect: nothing is printed anyway")
def cp(
    invocation: Invocation, operands: tuple[str, ...], archive: bool, follow_link: bool, quiet: bool
) -> None:
    """A path in a container begins at its root. - is a tar, from stdin or to stdout. A path of
    this machine that contains a colon has to begin with / or with a dot."""
    source, target = map(_split, operands)
    if source[0] is not None and target[0] is not None:
        raise StoreError("copying between containers is not supported: copy to this machine first")
    if source[0] is None and target[0] is None:
        raise WrongWords("must specify at least one container source", 1)
    with ExitStack() as stack:
        if target == (None, "-"):
            out = archive_output("Use the redirect")
            write_archive(_end(invocation, stack, source), out, follow=follow_link)
        elif source == (None, "-"):
            end = _end(invocation, stack, target)
            unpack_archive(sys.stdin.buffer, end, keep_owners=True)
        else:
            copy(
                _end(invocation, stack, source),
                _end(invocation, stack, target),
                follow=follow_link,
                keep_owners=archive,
            )


def _split(text: str) -> tuple[str | None, str]:
    """Return the container that an operand names, None for this machine, and the path."""
    name, colon, path = text.partition(":")
    if text.startswith(("/", ".")) or not colon or not name:
        return None, text
    return name, path


def _end(invocation: Invocation, stack: ExitStack, given: tuple[str | None, str]) -> End:
    name, path = given
    if name is None:
        absolute = os.path.join(os.getcwd(), path)
        root = stack.enter_context(root_of_the_host())
        return End(root, absolute, "on this machine", on_host=True)
    if not path:
        raise StoreError(f"no path in container {name}: write {name}:/PATH")
    store = invocation.store
    root = stack.enter_context(root_of(store, store.containers.resolve(name), path))
    return End(root, path, f"in container {name}")
