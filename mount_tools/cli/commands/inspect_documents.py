"""The documents that `inspect` prints: docker's fields in docker's order.

Source: moby `api/types/types.go` (ContainerJSON).
Differs from docker: fields about the daemon and cgroups are left out, as the addresses that a
container on the network of the host, or on none, has not; and `GraphDriver.Data` names the
trees of our layers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from layerstore.containers.container import Container
from layerstore.containers.container_log import NAME as LOG
from layerstore.images.images import Image
from layerstore.images.inspect import NO_CONFIG
from layerstore.oci.documents import Object
from layerstore.oci.durations import SECOND
from layerstore.oci.run_config import RunConfig
from layerstore.oci.timestamps import format_timestamp
from layerstore.store import Store
from layerstore.volumes import Volume, VolumeUse
from mount_tools.cli.commands.container_text import state_of
from mount_tools.cli.commands.ps_cmd import base_size, open_ports
from mount_tools.cli.gotemplate.values import Labels, Struct, Value
from mount_tools.container.cgroup import release_ended, was_oom_killed
from mount_tools.container.host_config import host_config
from mount_tools.container.mount_words import Volume as Bind
from mount_tools.container.pausing import is_paused
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import ClassVar

DRIVER = "pyunion"
LOCAL = "local"  # the driver of every volume
NO_TIME = "0001-01-01T00:00:00Z"
# What a container's HostConfig has of the flags that were not given; a list of docker's may be
# null too.
_NOT_GIVEN: dict[str, Value] = {
    "Binds": [],
    "PortBindings": {},
    "VolumesFrom": [],
    "CapAdd": [],
    "CapDrop": [],
    "Dns": [],
    "DnsOptions": [],
    "DnsSearch": [],
    "ExtraHosts": [],
    "Privileged": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": [],
    "NanoCpus": 0,
    "Devices": [],
    "Memory": 0,
    "MemorySwap": 0,
    "PidsLimit": None,
    "Ulimits": [],
}
_NO_ADDRESS: dict[str, Value] = {"Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "MacAddress": ""}


class ImageDocument(Struct):
    """The document of an image."""

    omitted: ClassVar[Mapping[str, Value]] = {"Variant": "", "OsVersion": ""}


def image_document(store: Store, image: Image) -> ImageDocument:
    """Return the document of an image."""
    found = ImageDocument(store.images.inspect(image))
    found["Config"] = _config(store.images.config(image).config)
    return found


def container_document(store: Store, container: Container, *, size: bool) -> dict[str, Value]:
    """Return the document of a container."""
    release_ended(store, container)
    words = RunConfig(container.config).argv
    sizes: dict[str, Value] = {}
    if size:
        own = container.size()
        sizes = {"SizeRw": own, "SizeRootFs": own + base_size(store, container)}
    trees = [container.upper, *store.containers.lowers(container)]
    driver = _driver(trees)
    data = driver["Data"]
    assert isinstance(data, dict)
    data |= {
        "MergedDir": container.mount_point or "",
        "WorkDir": str(container.work),
    }
    config = {**container.config}
    given = config.pop("HostConfig", None)
    host = given if isinstance(given, dict) else {}
    log = container.directory / LOG
    network = host_config(RunConfig(container.config)).network
    hostname = RunConfig(container.config).text("Hostname") or container.short
    ports: Object = {}
    for published in open_ports(container):
        ports |= published.bindings
    return {
        "Id": container.id,
        "Created": format_timestamp(container.created_ns),
        "Path": words[0] if words else "",
        "Args": words[1:],
        "State": _state(container),
        "Image": container.image,
        "LogPath": os.fspath(log) if log.exists() else "",
        "Name": f"/{container.name}",
        "RestartCount": 0,
        "Driver": DRIVER,
        "Platform": "linux",
        "HostConfig": {
            "NetworkMode": network,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "AutoRemove": container.auto_remove,
            **_NOT_GIVEN,
            **host,
        },
        "GraphDriver": driver,
        **sizes,
        "Mounts": _mounts(store, container),
        "Config": _config({**config, "Hostname": hostname, "Image": container.image_name}),
        "NetworkSettings": {"Ports": ports, **_NO_ADDRESS, "Networks": {network: {**_NO_ADDRESS}}},
    }


def _state(container: Container) -> dict[str, Value]:
    return {
        "Status": state_of(container),
        "Running": container.running,
        "Paused": is_paused(container),
        "Restarting": False,
        "OOMKilled": was_oom_killed(container.directory),
        "Dead": False,
        "Pid": container.pid or 0,
        "ExitCode": container.exit_code or 0,
        "Error": "",
        "StartedAt": _moment(container.started_ns),
        "FinishedAt": _moment(container.finished_ns),
    }


def _driver(trees: Sequence[Path]) -> dict[str, Value]:
    data: dict[str, Value] = {}
    if len(trees) > 1:
        data["LowerDir"] = ":".join(map(str, trees[1:]))
    if trees:
        data["UpperDir"] = str(trees[0])
    return {"Data": data, "Name": DRIVER}


def volume_document(store: Store, volume: Volume) -> dict[str, Value]:
    """Return the document of a volume."""
    made_for_container = volume.labels is None
    return {
        "CreatedAt": format_timestamp(volume.created_ns // SECOND * SECOND),
        "Driver": LOCAL,
        "Labels": None if made_for_container else Labels(volume.labels or {}),
        "Mountpoint": str(store.volumes.data(volume.name)),
        "Name": volume.name,
        "Options": None if made_for_container else {},
        "Scope": "local",
    }


def _mounts(store: Store, container: Container) -> list[Value]:
    """Return the mounts of a container as docker lists them."""
    host = host_config(RunConfig(container.config))
    return [
        *(_bind(volume) for volume in host.volumes),
        *(_mount(store, use) for use in store.volumes.uses_of(container.id)),
    ]


def _mount(store: Store, use: VolumeUse) -> Value:
    """Return a volume of the store; one with a name has the mode "z" if no other, as in docker."""
    mode = "ro" if use.read_only else "z" if use.named else ""
    return {
        "Type": "volume",
        "Name": use.volume,
        "Source": str(store.volumes.data(use.volume)),
        "Destination": use.target,
        "Driver": LOCAL,
        "Mode": mode,
        "RW": not use.read_only,
        "Propagation": "",
    }


def _bind(volume: Bind) -> Value:
    return {
        "Type": "bind",
        "Source": volume.source,
        "Destination": volume.target,
        "Mode": "ro" if volume.read_only else "",
        "RW": not volume.read_only,
        "Propagation": "rprivate",
    }


def _config(config: Object) -> dict[str, Value]:
    known: dict[str, Value] = {**NO_CONFIG, **config}
    labels = known["Labels"]
    if isinstance(labels, dict):
        known["Labels"] = Labels(labels)
    return known


def _moment(ns: int | None) -> str:
    return NO_TIME if ns is None else format_timestamp(ns)
