"""`pyunion check`: verify the store against its database and digests, and repair it.

docker has no such command; podman has `podman system check`.
"""

from __future__ import annotations

import os

from layerstore.operations.check import Finding
from layerstore.operations.check import check as check_store
from layerstore.operations.repair import QUARANTINE
from layerstore.operations.repair import repair as repair_store
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.errors import Exit
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.listing import as_json
from mount_tools.cli.output.progress import reported
from mount_tools.cli.output.terminal import one_line
from mount_tools.container.user_namespace import read_all


@framework.command("Check every blob, layer, image and container of the store")
@framework.flag("--repair", says="Repair what can be repaired, and move the rest to quarantine/")
@framework.flag("--quick", says="Compare sizes and times of files only; do not read their content")
@framework.flag("--json", "json", says="Print a JSON array")
@framework.flag("-q", "--quiet", says="Print nothing; only set the exit status")
def check(invocation: Invocation, repair: bool, quick: bool, json: bool, quiet: bool) -> None:
    """Exits with 1 if something is damaged and was not repaired. A repair deletes only files that
    can be created again; it moves all others to quarantine/ in the store, by their names. An image
    that needs a layer that was moved is usable again after it is loaded or pulled again. With
    --json each finding has kind, key, path, problem, harmless and repaired."""
    store = invocation.store
    read_all()
    # All of it shares one line: a store has more blobs than a screen has lines.
    with reported(quiet=quiet) as report:
        found = (repair_store if repair else check_store)(
            store,
            content=not quick,
            report=lambda progress: report(progress._replace(what="", note=progress.what)),
        )
    if json:
        say(as_json(map(as_object, found)), end="")
    elif not quiet:
        _tell(store, found, repair=repair)
    if any(finding.is_damage for finding in found):
        raise Exit(1)


def _tell(store: Store, found: list[Finding], *, repair: bool) -> None:
    for finding in found:
        say(one_line(str(finding)))
    damaged = sum(finding.is_damage for finding in found)
    counted = (
        f"{_counted(len(store.images.all()), 'image')}, "
        f"{_counted(len(store.layers.all()), 'layer')}, "
        f"{_counted(len(store.containers.list()), 'container')}"
    )
    if not found:
        say(f"{counted}: no findings")
        return
    findings = _counted(len(found), "finding")
    say(f"{counted}: {findings}, {damaged or 'none'} of them damage")
    if not repair and any(finding.repairable for finding in found):
        say("Run `pyunion check --repair` to repair what can be repaired")
    elif repair and (store.root / QUARANTINE).exists():
        say(f"Files that the repair moved away are in {store.root / QUARANTINE}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def as_object(finding: Finding) -> dict[str, str | bool]:
    """Return a finding as `--json` prints it."""
    return {
        "kind": finding.kind,
        "key": finding.key,
        "path": os.fsdecode(finding.path),
        "problem": finding.problem,
        "harmless": finding.harmless,
        "repaired": "" if finding.repair is None else str(finding.repair),
    }
