"""`pyunion engine-check`: test which parts of PyUnion container engines can use here."""

from __future__ import annotations

from pathlib import Path

from layerstore.errors import StoreError
from mount_tools.cli import framework
from mount_tools.cli.ending import ended_by_signals
from mount_tools.cli.errors import Exit
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.listing import as_json


@framework.command(
    "Mount a scratch union and print what works for container engines on this machine"
)
@framework.text(
    "--dir", "directory", default="/var/tmp", says="Directory on the filesystem of the layers"
)
@framework.flag("--json", "json", says="Print a JSON array")
def engine_check(_: Invocation, /, directory: str, json: bool) -> None:
    """Exits with 1 if nothing can be mounted. With --json each finding has name, works and
    says."""
    from mount_tools.daemon.machine_check import check_machine

    try:
        with ended_by_signals():
            found = check_machine(Path(directory))
    except OSError as error:
        problem = f"no scratch directory can be made in {directory}: {error.strerror}"
        raise StoreError(problem) from None
    if json:
        say(as_json(finding._asdict() for finding in found), end="")
    else:
        for finding in found:
            say(f"{finding.name:12} {'yes' if finding.works else 'no':4} {finding.says}")
    if not found[0].works:
        raise Exit(1)
