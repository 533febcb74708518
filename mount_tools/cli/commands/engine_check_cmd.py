"""`pyunion engine-check`: what container engines can use of PyUnion on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from mount_tools.cli import framework
from mount_tools.cli.output.listing import as_json
from mount_tools.cli.session import say


@framework.command("Mount a scratch union and say what works for container engines here")
@framework.text("--dir", "directory", default="/var/tmp", says="Where the layers would be")
@framework.flag("--json", "json", says="Print a JSON array")
def engine_check(directory: str, json: bool) -> None:
    """Exits with 1 if nothing can be mounted. With --json each finding has name, works and
    says."""
    from mount_tools.daemon.machine_check import check_machine

    found = check_machine(Path(directory))
    if json:
        say(as_json(finding._asdict() for finding in found), end="")
    else:
        for finding in found:
            say(f"{finding.name:12} {'yes' if finding.works else 'no':4} {finding.says}")
    if not found[0].works:
        raise click.exceptions.Exit(1)
