"""`pyunion system df`: the disk space that the store uses, and what can be reclaimed.

Source: docker/cli `cli/command/formatter/disk_usage.go`.
Differs from docker: the reclaimable space of images is the size of the layers that no
container needs, each counted once; manifests, configurations and the tars of layers have a
row of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from layerstore.oci.durations import SECOND
from layerstore.operations.disk_usage import Usage, usage
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands.container_text import command_line, image_text, quoted, status_text
from mount_tools.cli.commands.images_cmd import rows_of
from mount_tools.cli.commands.ps_cmd import COMMAND_WIDTH
from mount_tools.cli.gotemplate.values import Row, Value
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.human import age, ellipsis, human_size
from mount_tools.cli.output.listing import Listing, as_json
from mount_tools.container.pausing import is_paused
from mount_tools.container.user_namespace import read_all

LISTING = Listing(
    {
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    identity="Type",
)
IMAGES = Listing(
    {
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "ID": "IMAGE ID",
        "CreatedSince": "CREATED",
        "VirtualSize": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
        "Containers": "CONTAINERS",
    },
    (
        "Repository", "Tag", "ID", "CreatedSince", "VirtualSize", "SharedSize", "UniqueSize",
        "Containers",
    ),
)  # fmt: skip
CONTAINERS = Listing(
    {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "Size": "SIZE",
        "RunningFor": "CREATED",
        "Status": "STATUS",
        "Names": "NAMES",
    },
    ("ID", "Image", "Command", "Size", "RunningFor", "Status", "Names"),
)

VOLUMES = Listing(
    {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"},
    ("Name", "Links", "Size"),
    identity="Name",
)


class DiskRow(Row):
    type_name = "*formatter.diskUsageContext"


@framework.command("Show disk usage of the store")
@framework.template("row")
@framework.flag("--json", "json", says="Print a JSON array with sizes in bytes")
@framework.flag("-v", "--verbose", says="Show detailed information on space usage")
def df(invocation: Invocation, template: str | None, json: bool, verbose: bool) -> None:
    """Each layer counts once. With --json each row has type, total, active, size and
    reclaimable (bytes)."""
    store = invocation.store
    read_all()  # the files may belong to sub-ids
    found = usage(store)
    counted = as_objects(found, len(list(store.blobs.all())))
    if json:
        say(as_json(counted), end="")
    elif verbose and not template:
        say(f"Images space usage:\n\n{_image_table(found)}")
        say(f"Containers space usage:\n\n{_container_table(store, found)}")
        say(f"Local Volumes space usage:\n\n{_volume_table(found)}")
        say(f"Build cache usage: {human_size(found.builds_size)}\n")
        say(f"Blobs space usage: {human_size(found.blobs_size)}")
    else:
        say(LISTING.text(map(_row, counted), template), end="")


def as_objects(found: Usage, blobs: int) -> list[dict[str, Value]]:
    """Return the rows as `--json` prints them."""
    return [
        {
            "type": "Images",
            "total": len(found.images),
            "active": found.images_active,
            "size": found.layers_size,
            "reclaimable": found.images_reclaimable,
        },
        {
            "type": "Containers",
            "total": len(found.containers),
            "active": found.containers_active,
            "size": found.containers_size,
            "reclaimable": found.containers_reclaimable,
        },
        {
            "type": "Local Volumes",
            "total": len(found.volumes),
            "active": found.volumes_active,
            "size": found.volumes_size,
            "reclaimable": found.volumes_reclaimable,
        },
        {
            "type": "Build Cache",
            "total": found.builds,
            "active": found.builds_active,
            "size": found.builds_size,
            "reclaimable": found.builds_size,
        },
        {
            "type": "Blobs",
            "total": blobs,
            "active": blobs,
            "size": found.blobs_size,
            "reclaimable": 0,
        },
    ]


def _number(row: Mapping[str, Value], name: str) -> int:
    value = row[name]
    assert isinstance(value, int)
    return value


def _row(counted: Mapping[str, Value]) -> DiskRow:
    size, reclaimable = _number(counted, "size"), _number(counted, "reclaimable")
    share = f" ({reclaimable * 100 // size}%)" if size and counted["type"] != "Blobs" else ""
    return DiskRow(
        Type=counted["type"],
        TotalCount=str(counted["total"]),
        Active=str(counted["active"]),
        Size=human_size(size),
        Reclaimable=human_size(reclaimable) + share,
    )


def _image_table(found: Usage) -> str:
    rows = []
    for use in found.images:
        for row in rows_of(use.image, False, whole=False):
            row |= {
                "SharedSize": human_size(use.shared),
                "UniqueSize": human_size(use.unique),
                "Containers": str(use.containers),
            }
            rows.append(row)
    return IMAGES.text(rows)


def _container_table(store: Store, found: Usage) -> str:
    return CONTAINERS.text(
        Row(
            ID=use.container.short,
            Image=image_text(store, use.container),
            Command=quoted(ellipsis(command_line(use.container), COMMAND_WIDTH)),
            Size=human_size(use.size),
            RunningFor=age(use.container.created_ns // SECOND * SECOND),
            Status=status_text(use.container, paused=is_paused(use.container)),
            Names=use.container.name,
        )
        for use in found.containers
    )


def _volume_table(found: Usage) -> str:
    return VOLUMES.text(
        Row(Name=use.name, Links=str(use.links), Size=human_size(use.size)) for use in found.volumes
    )
