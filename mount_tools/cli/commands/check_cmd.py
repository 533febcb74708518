"""`pyunion check`: whether the store is what it says it is.

docker has no such command; podman has `podman system check`.
"""

from __future__ import annotations

import os
import sys

import click

from layerstore.operations.check import Finding
from layerstore.operations.repair import QUARANTINE
from layerstore.operations.repair import check as check_store
from layerstore.progress import Report
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.output.listing import as_json
from mount_tools.cli.output.progress import reported
from mount_tools.cli.output.terminal import one_line
from mount_tools.cli.session import Session, pass_session, say
from mount_tools.container.user_namespace import read_all


@framework.command("Check every blob, layer, image and container of the store")
@framework.flag("--repair", says="Make whole what can be made whole, and set aside what cannot")
@framework.flag("--quick", says="Believe files by their size and time; read none whole")
@framework.flag("--json", "json", says="Print a JSON array")
@framework.flag("-q", "--quiet", says="Print nothing; the exit status tells")
@pass_session
def check(session: Session, repair: bool, quick: bool, json: bool, quiet: bool) -> None:
    """Exits with 1 where something is damaged and was not repaired. Nothing is deleted that
    cannot be made anew: it goes to quarantine/ beneath the root, under the name it had. With
    --json each finding has kind, key, path, problem, harmless and repaired."""
    store = session.store
    read_all()
    # One line for all: a store has more blobs than a screen has lines, and a pipe no use for them.
    with reported(quiet=quiet or not sys.stderr.isatty()) as progress:
        report = None if progress is None else _on_one_line(progress)
        found = check_store(store, repair=repair, content=not quick, report=report)
    if json:
        say(as_json(map(as_object, found)), end="")
    elif not quiet:
        _tell(store, found, repair=repair)
    if any(is_damage(finding) for finding in found):
        raise click.exceptions.Exit(1)


def _on_one_line(progress: Report) -> Report:
    return lambda event: progress(
        event._replace(layer="", status=f"{event.status} {event.layer}".rstrip())
    )


def is_damage(finding: Finding) -> bool:
    """Tell whether something is lost, or may be, and is so still."""
    # What a repair tried in vain it says in the same field.
    mended = finding.repaired and not finding.repaired.startswith("not repaired")
    return not finding.harmless and not mended


def _tell(store: Store, found: list[Finding], *, repair: bool) -> None:
    for finding in found:
        say(one_line(str(finding)))
    damaged = sum(map(is_damage, found))
    counted = (
        f"{_counted(len(store.images.all()), 'image')}, "
        f"{_counted(len(store.layers.all()), 'layer')}, "
        f"{_counted(len(store.containers.list()), 'container')}"
    )
    if not found:
        say(f"{counted}: all as it should be")
        return
    said = [f"{_counted(len(found), 'finding')}", f"{damaged} of damage"]
    say(f"{counted}: {', '.join(said)}")
    if not repair:
        say("`pyunion check --repair` does what can be done about them")
    elif (store.root / QUARANTINE).exists():
        say(f"what could not be kept in its place is in {store.root / QUARANTINE}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def as_object(finding: Finding) -> dict[str, str | bool]:
    """Return a finding as `--json` has it."""
    return {
        "kind": finding.kind,
        "key": finding.key,
        "path": os.fsdecode(finding.path),
        "problem": finding.problem,
        "harmless": finding.harmless,
        "repaired": finding.repaired,
    }
