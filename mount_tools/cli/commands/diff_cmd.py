"""`pyunion diff`: what a container changed in its image, or how two images differ.

Source: moby `daemon/changes.go`, `pkg/archive/changes.go`.
Differs from docker: two operands compare two images (or containers), path by path and
byte by byte, as requested of docker in moby#12641.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from layerstore.containers.container import Container
from layerstore.diff.changes import Change
from layerstore.diff.differences import differences
from layerstore.errors import NotFound
from layerstore.images.images import Image
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands.inspect_cmd import resolved
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.listing import as_json
from mount_tools.cli.output.terminal import one_line
from mount_tools.container.user_namespace import read_all


@framework.command(
    "Inspect changes to files or directories on a container's filesystem, or between images",
    "CONTAINER | IMAGE IMAGE",
    least=1,
    most=2,
    completes=named("image", "container"),
)
@framework.flag("--json", "json", says="Print a JSON array")
def diff(invocation: Invocation, operands: tuple[str, ...], json: bool) -> None:
    """A: added, C: changed, D: deleted. A deleted directory is one line. With
    --json each change has kind and path."""
    store = invocation.store
    if len(operands) == 1:
        container = store.containers.resolve(operands[0])
        read_all()
        found = container_changes(store, container)
    else:
        first, second = (resolved(store, name, ("image", "container")) for name in operands)
        read_all()
        live = any(isinstance(one, Container) and one.running for one in (first, second))
        found = differences(trees(store, first), trees(store, second), content=True, live=live)
    if json:
        say(as_json({"kind": kind, "path": os.fsdecode(path)} for kind, path in found), end="")
    else:
        _print(found)


def container_changes(store: Store, container: Container) -> Iterable[Change]:
    """Return what the container changed in its image, including what it committed."""
    try:
        image = store.images.get(container.image)
        before = trees(store, image)
    except NotFound:
        before = [layer.diff for layer in store.layers.chain(container.base)]
    return differences(before, trees(store, container), content=False, live=container.running)


def trees(store: Store, found: Image | Container) -> list[Path]:
    """Return the trees of an image or a container, the topmost first."""
    if isinstance(found, Image):
        return [layer.diff for layer in store.layers.chain(found.top)]
    return store.containers.trees(found)


def _print(found: Iterable[Change]) -> None:
    shown = one_line if sys.stdout.isatty() else str
    lines = []
    for kind, path in found:
        lines.append(f"{kind} {shown(os.fsdecode(path))}\n")
        if len(lines) == 1000:
            say("".join(lines), end="")
            lines.clear()
    say("".join(lines), end="")
