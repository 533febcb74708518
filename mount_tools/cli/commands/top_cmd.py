"""`pyunion top`: the running processes of a container, as ps(1) of this machine shows them.

Source: docker/cli `cli/command/container/top.go`; moby `daemon/top_unix.go`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from layerstore.errors import Conflict, StoreError
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.table import aligned
from mount_tools.container.members import members

_USUAL = ("-ef",)
_PID = "PID"
_WIDTH = 20


@framework.command(
    "Display the running processes of a container",
    "CONTAINER [ps OPTIONS]",
    least=1,
    most=None,
    interspersed=False,
    completes=named("container", last=0),
)
def top(invocation: Invocation, operands: tuple[str, ...]) -> None:
    """The options are those of ps(1); without any it is `ps -ef`. The pids are this machine's."""
    name, *options = operands
    container = invocation.store.containers.resolve(name)
    init = container.process if container.runs_command else None
    if init is None:
        raise Conflict(f"Container {container.id} is not running")
    pids = [one.id.pid for one in members(init)]
    say(aligned(table(ps(options or _USUAL, pids), pids), _WIDTH), end="")


def ps(options: Sequence[str], pids: Sequence[int]) -> list[str]:
    """Return the lines that `ps` prints; those of `pids` are among them.  Raises StoreError."""
    only = ("-q", ",".join(map(str, pids)))
    said = ""
    for words in ((*options, *only), tuple(options)):
        try:
            done = subprocess.run(
                ["ps", *words], capture_output=True, stdin=subprocess.DEVNULL, check=False
            )
        except FileNotFoundError:
            raise StoreError(
                "top needs ps(1), which is not installed here: it is in the package procps"
            ) from None
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "surrogateescape").splitlines()
        said = done.stderr.decode("utf-8", "replace").strip()
    raise StoreError(f"ps: {said.splitlines()[0] if said else 'it failed'}")


def table(lines: Sequence[str], pids: Sequence[int]) -> list[list[str]]:
    """Return the titles and the rows of `pids`; what exceeds the titles is in the last cell.

    Raises StoreError if ps does not print pids.
    """
    titles = lines[0].split() if lines else []
    if _PID not in titles:
        raise StoreError("Couldn't find PID field in ps output")
    at = titles.index(_PID)
    rows = [titles]
    wanted = {str(pid) for pid in pids}
    for line in lines[1:]:
        cells = line.split(None, len(titles) - 1)
        if len(cells) > at and cells[at] in wanted:
            cells[-1] = " ".join(cells[-1].split())
            rows.append(cells + [""] * (len(titles) - len(cells)))
    return rows
