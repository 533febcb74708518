"""`pyunion volume`: make, list, inspect and remove volumes.

Source: docker/cli `cli/command/volume/`, `cli/command/formatter/volume.go`; moby
`volume/service/`.
Differs from docker: there is one driver, `local`, without options; `--dry-run` of `prune`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from layerstore.errors import InvalidArgument, NoSuchVolume, StoreError
from layerstore.images.filters import has_labels
from layerstore.oci.timestamps import format_timestamp
from layerstore.operations import gc
from layerstore.store import Store
from layerstore.volumes import Volume
from mount_tools.cli import framework
from mount_tools.cli.commands import filters
from mount_tools.cli.commands.inspect_cmd import show_documents
from mount_tools.cli.commands.inspect_documents import LOCAL, volume_document
from mount_tools.cli.commands.prune_cmd import report, which_of
from mount_tools.cli.complete import named
from mount_tools.cli.confirm import confirmed
from mount_tools.cli.errors import WrongWords
from mount_tools.cli.gotemplate.values import Labels, Row, Value
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.listing import Listing, as_json
from mount_tools.container.user_namespace import read_all

KNOWN = ("dangling", "driver", "label", "name")
LISTING = Listing(
    {
        "Name": "VOLUME NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "Availability": "AVAILABILITY",
        "Mountpoint": "MOUNTPOINT",
        "Labels": "LABELS",
        "Links": "LINKS",
        "Size": "SIZE",
        "Group": "GROUP",
        "Status": "STATUS",
    },
    ("Driver", "Name"),
    identity="Name",
)


class VolumeRow(Row):
    type_name = "*formatter.volumeContext"


@framework.command("Create a volume", "[VOLUME]", most=1)
@framework.text("-d", "--driver", says="The volume driver: only local", default=LOCAL)
@framework.texts("--label", says="Set metadata for a volume")
@framework.text("--name", "given", says="The name, in the form of older clients")
def create(
    invocation: Invocation,
    operands: tuple[str, ...],
    driver: str,
    label: tuple[str, ...],
    given: str | None,
) -> None:
    """Prints the name. If a volume of that name exists already, it stays as it is."""
    if operands and given:
        raise WrongWords("Conflicting options: either specify --name or provide positional arg", 1)
    name = operands[0] if operands else given
    if driver != LOCAL:
        raise StoreError(
            f"create {name or 'volume'}: error looking up volume plugin {driver}: plugin "
            f'"{driver}" not found: there is only the driver local'
        )
    labels = dict(_label(text) for text in label)
    say(invocation.store_to_fill.volumes.create(name or None, labels).name)


def _label(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name:
        raise InvalidArgument(
            f'invalid argument "{text}" for "--label" flag: invalid label \'{text}\': empty name'
        )
    return name, value


@framework.command("List volumes")
@framework.filters(
    says="Only volumes that match: dangling=BOOL, driver=NAME, label=NAME[=VALUE], name=PATTERN"
)
@framework.template("volume")
@framework.flag("--json", "json", says="Print a JSON array")
@framework.flag("-q", "--quiet", says="Only display volume names")
def ls(
    invocation: Invocation,
    wanted: tuple[tuple[str, str], ...],
    template: str | None,
    json: bool,
    quiet: bool,
) -> None:
    """With --json each volume has name, driver, scope, mountpoint, labels, created, containers
    (the ids of those that use it) and size (bytes)."""
    store = invocation.store
    found = selected(store, wanted)
    if json:
        read_all()
        say(as_json(as_object(store, one) for one in found), end="")
        return
    say(LISTING.text((row_of(store, one) for one in found), template, quiet=quiet), end="")


def selected(store: Store, wanted: tuple[tuple[str, str], ...]) -> list[Volume]:
    """Return the volumes that pass all filters, by name.  Raises StoreError."""
    asked = filters.gathered(wanted, KNOWN)
    found = sorted(store.volumes.list(), key=lambda one: _natural(one.name))
    if "dangling" in asked:
        unused, used = filters.boolean("dangling", asked["dangling"]), store.volumes.used()
        found = [one for one in found if (one.name not in used) == unused]
    if "driver" in asked and LOCAL not in asked["driver"]:
        return []
    if "name" in asked:
        found = [one for one in found if any(_matches(text, one.name) for text in asked["name"])]
    pairs = filters.label_pairs(asked.get("label", ()))
    return [one for one in found if has_labels(dict(one.labels or {}), pairs)]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts numbers in names by their value, as docker does."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [
        (True, 0, part) if not part.isdigit() else (False, int(part[:4000]), part) for part in parts
    ]


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return pattern in name


def row_of(store: Store, volume: Volume) -> VolumeRow:
    """Return the fields of a volume for a template."""
    labels = volume.labels or {}
    return VolumeRow(
        Name=volume.name,
        Driver=LOCAL,
        Scope=LOCAL,
        Availability="N/A",
        Mountpoint=str(store.volumes.data(volume.name)),
        Labels=",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        Links="N/A",
        Size="N/A",
        Group="N/A",
        Status="N/A",
    )


def as_object(store: Store, volume: Volume) -> dict[str, Value]:
    """Return a volume as `--json` prints it."""
    labels: Mapping[str, Value] = Labels(volume.labels or {})
    return {
        "name": volume.name,
        "driver": LOCAL,
        "scope": LOCAL,
        "mountpoint": str(store.volumes.data(volume.name)),
        "labels": labels,
        "created": format_timestamp(volume.created_ns),
        "containers": [*store.volumes.users(volume.name)],
        "size": store.volumes.size(volume.name),
    }


@framework.command(
    "Display detailed information on one or more volumes",
    "VOLUME [VOLUME...]",
    least=1,
    most=None,
    completes=named("volume"),
)
@framework.template("volume", "-f")
def inspect(invocation: Invocation, operands: tuple[str, ...], template: str | None) -> None:
    volumes = invocation.store.volumes
    show_documents(
        operands, template, lambda name: volume_document(invocation.store, volumes.get(name))
    )


@framework.command(
    "Remove one or more volumes",
    "VOLUME [VOLUME...]",
    least=1,
    most=None,
    completes=named("volume"),
)
@framework.flag("-f", "--force", says="Ignore volumes that do not exist")
def rm(invocation: Invocation, operands: tuple[str, ...], force: bool) -> None:
    """A volume that a container uses, running or not, is refused."""
    read_all()  # the files may belong to sub-ids

    def remove(name: str) -> None:
        try:
            invocation.store.volumes.remove(name)
        except NoSuchVolume:
            if not force:
                raise
        say(name)

    invocation.each(operands, remove)


@framework.command("Remove all unused local volumes")
@framework.flag("--dry-run", says="Show what would be removed, without removing it")
@framework.filters("--filter", says="Only what matches: label=NAME[=VALUE]")
@framework.flag("-f", "--force", says="Do not prompt for confirmation")
def prune(
    invocation: Invocation, dry_run: bool, wanted: tuple[tuple[str, str], ...], force: bool
) -> None:
    which = which_of(filters.gathered(wanted, ("label", "label!")))
    warning = "This will remove all local volumes not used by at least one container."
    if not (force or dry_run or confirmed(warning)):
        return
    read_all()
    report(gc.prune_volumes(invocation.store, which, dry_run=dry_run), dry_run)
