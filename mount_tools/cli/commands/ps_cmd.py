"""`pyunion ps`: list containers.

Source: docker/cli `cli/command/formatter/container.go`; moby `daemon/list.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from layerstore.containers.container import Container
from layerstore.errors import StoreError
from layerstore.images.filters import has_labels
from layerstore.oci.digest import Digest
from layerstore.oci.durations import SECOND
from layerstore.oci.run_config import RunConfig
from layerstore.oci.timestamps import format_timestamp
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands import filters
from mount_tools.cli.commands.container_text import (
    command_line,
    image_text,
    quoted,
    state_of,
    status_text,
)
from mount_tools.cli.flags import parse_integer
from mount_tools.cli.gotemplate.values import Row, Value
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.human import age, ellipsis, go_time, human_size
from mount_tools.cli.output.listing import Listing, as_json
from mount_tools.container.cgroup import release_ended
from mount_tools.container.host_config import host_config
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mount_tools.container.published_ports import Published

COMMAND_WIDTH = 20
MOUNT_WIDTH = 15
KNOWN = (
    *("ancestor", "before", "exited", "id", "label", "name", "network", "publish", "since"),
    *("status", "volume"),
)
_SIZED = r"Size|json\s+\.(?!\w)|\{\{-?\s*\.\s*(?:-?\}\}|\|)"
STATES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")

LISTING = Listing(
    {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "State": "STATE",
        "Status": "STATUS",
        "Ports": "PORTS",
        "Size": "SIZE",
        "Names": "NAMES",
        "Labels": "LABELS",
        "Mounts": "MOUNTS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Networks": "NETWORKS",
    },
    ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"),
)


class ContainerRow(Row):
    type_name = "*formatter.containerContext"


class _Flags(NamedTuple):
    """The flags of `ps`."""

    all: bool
    wanted: tuple[tuple[str, str], ...]
    template: str | None
    json: bool
    last: int
    latest: bool
    no_trunc: bool
    quiet: bool
    size: bool


@framework.command("List containers")
@framework.flag("-a", "--all", says="Show all containers (default shows just running)")
@framework.filters(
    says="Only containers that match: ancestor=IMAGE, before=CONTAINER, exited=CODE, "
    "id=ID, label=NAME[=VALUE], name=PATTERN, network=NAME, publish=PORT[/PROTOCOL], "
    "since=CONTAINER, status=STATUS, volume=NAME|TARGET"
)
@framework.template("container")
@framework.flag("--json", "json", says="Print a JSON array, untruncated")
@framework.number(
    "-n", "--last", says="Show n last created containers (includes all states)", default=-1
)
@framework.flag("-l", "--latest", says="Show the latest created container (includes all states)")
@framework.flag("--no-trunc", says="Don't truncate output")
@framework.flag("-q", "--quiet", says="Only display container IDs")
@framework.flag("-s", "--size", says="Display total file sizes")
@framework.as_one(_Flags)
def ps(invocation: Invocation, flags: _Flags) -> None:
    """With --json each container has id, name, image, image_id, command, status, exit_code,
    pid, created, started, finished, mount_point, labels and ports; with --size also size and
    virtual_size (bytes)."""
    store = invocation.store
    last = 1 if flags.latest and flags.last < 0 else flags.last
    found = selected(store, flags.wanted, everything=flags.all, last=last)
    for container in found:
        release_ended(store, container)
    if flags.json:
        say(as_json(as_object(store, one, size=flags.size) for one in found), end="")
        return
    sized = flags.size or shows_size(flags.template)
    rows = [row_of(store, one, whole=flags.no_trunc, sized=sized) for one in found]
    plain = (*LISTING.plain, "Size") if flags.size else None
    say(LISTING.text(rows, flags.template, quiet=flags.quiet, plain=plain), end="")


def shows_size(template: str | None) -> bool:
    """Tell whether a template shows the size of a container, by its name or with all fields."""
    return template == "json" or re.search(_SIZED, template or "") is not None


def selected(
    store: Store, wanted: tuple[tuple[str, str], ...], *, everything: bool, last: int
) -> list[Container]:
    """Return the containers that pass all filters, the newest first.  Raises StoreError."""
    asked = filters.gathered(wanted, KNOWN)
    tests = [_test(store, name, values) for name, values in asked.items()]
    found = [
        container
        for container in store.containers.list()
        if (everything or last > 0 or "status" in asked or container.running)
        and all(test(container) for test in tests)
    ]
    return found[:last] if last > 0 else found


def _test(store: Store, name: str, values: list[str]) -> Callable[[Container], bool]:
    """Return a function that says whether a container passes one filter."""
    if name == "status":
        for value in values:
            if value not in STATES:
                raise StoreError(f"Invalid filter 'status={value}'")
        return lambda one: state_of(one) in values
    if name == "exited":
        codes = {_code(value) for value in values}
        return lambda one: one.status == "exited" and (one.exit_code or 0) in codes
    if name == "label":
        pairs = filters.label_pairs(values)
        return lambda one: has_labels(RunConfig(one.config).labels, pairs)
    if name in ("name", "id"):
        patterns = [_pattern(value) for value in values]
        texts: Callable[[Container], tuple[str, ...]] = (
            (lambda one: (one.name, f"/{one.name}")) if name == "name" else lambda one: (one.id,)
        )
        return lambda one: any(p.search(text) for p in patterns for text in texts(one))
    if name == "network":
        return lambda one: host_config(RunConfig(one.config)).network in values
    if name == "publish":
        from mount_tools.container.published_ports import port_range

        wanted = [port_range(value) for value in values]
        return lambda one: any(port.has(*ports) for port in open_ports(one) for ports in wanted)
    if name == "volume":
        return lambda one: any(
            value in mount[:2] for mount in mounts_of(store, one) for value in values
        )
    if name == "ancestor":
        images = _descendants(store, values)
        return lambda one: one.image in images
    others = [store.containers.resolve(value) for value in values]
    if name == "before":
        return lambda one: all(one.created_ns < other.created_ns for other in others)
    return lambda one: all(one.created_ns > other.created_ns for other in others)


def _code(value: str) -> int:
    try:
        return parse_integer(value)
    except ValueError:
        raise StoreError(f"Invalid filter 'exited={value}'") from None


def _pattern(value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except re.error:
        return re.compile(re.escape(value))


def _descendants(store: Store, names: list[str]) -> set[Digest]:
    """Return the images of these names and all images made from them."""
    found: set[Digest] = set()
    ahead = []
    for name in names:
        try:
            ahead.append(store.images.resolve(name).id)
        except StoreError:
            continue  # as in docker: an unknown name is the ancestor of nothing
    while ahead:
        image = ahead.pop()
        if image not in found:
            found.add(image)
            ahead.extend(store.images.children(image))
    return found


def row_of(store: Store, container: Container, *, whole: bool, sized: bool) -> ContainerRow:
    """Return the fields of a container for a template."""
    command = command_line(container)
    labels = RunConfig(container.config).labels
    mounts, state = mounts_of(store, container), state_of(container)
    return ContainerRow(
        ID=container.id if whole else container.short,
        Image=image_text(store, container, whole=whole),
        Command=quoted(command if whole else ellipsis(command, COMMAND_WIDTH)),
        CreatedAt=go_time(container.created_ns),
        RunningFor=age(container.created_ns // SECOND * SECOND),
        State=state,
        Status=status_text(container, paused=state == "paused"),
        Ports=", ".join(one.text for one in open_ports(container)),
        Size=size_text(store, container) if sized else "0B",
        Names=container.name,
        Labels=",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        Mounts=",".join(
            one.source if whole else ellipsis(one.source, MOUNT_WIDTH) for one in mounts
        ),
        LocalVolumes=str(sum(1 for one in mounts if one.of_store)),
        Networks=host_config(RunConfig(container.config)).network,
    )


def open_ports(container: Container) -> list[Published]:
    """Return the ports that a container publishes, which are open as long as it runs."""
    bindings = host_config(RunConfig(container.config)).ports
    if not bindings or not container.runs_command:
        return []
    from mount_tools.container.published_ports import published_in  # few publish any

    return published_in(bindings)


class Shown(NamedTuple):
    """A mount of a container: a path of the host, or the name of a volume of the store."""

    source: str
    target: str
    of_store: bool


def mounts_of(store: Store, container: Container) -> list[Shown]:
    """Return the mounts of a container, except those in memory."""
    host = host_config(RunConfig(container.config))
    return [
        *(Shown(volume.source, volume.target, False) for volume in host.volumes),
        *(Shown(use.volume, use.target, True) for use in store.volumes.uses_of(container.id)),
    ]


def size_text(store: Store, container: Container) -> str:
    """Return the size of what the container changed, and its total size."""
    own = container.size()
    return f"{human_size(own, 3)} (virtual {human_size(own + base_size(store, container), 3)})"


def base_size(store: Store, container: Container) -> int:
    """Return the bytes of the layers below the upper of the container."""
    return sum(layer.size for layer in store.layers.chain(container.base))


def as_object(store: Store, container: Container, *, size: bool) -> dict[str, Value]:
    """Return a container as `--json` prints it."""

    def moment(ns: int | None) -> str | None:
        return None if ns is None else format_timestamp(ns)

    config = RunConfig(container.config)
    found: dict[str, Value] = {
        "id": container.id,
        "name": container.name,
        "image": container.image_name,
        "image_id": container.image,
        "command": [*config.argv],
        "status": state_of(container),
        "exit_code": container.exit_code,
        "pid": container.pid,
        "created": format_timestamp(container.created_ns),
        "started": moment(container.started_ns),
        "finished": moment(container.finished_ns),
        "mount_point": container.mount_point,
        "labels": {**config.labels},
        "ports": [one.text for one in open_ports(container)],
    }
    if size:
        own = container.size()
        found |= {"size": own, "virtual_size": own + base_size(store, container)}
    return found
