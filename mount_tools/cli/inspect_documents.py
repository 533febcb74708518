"""What `inspect` tells of an image and of a container: docker's fields in docker's order.

Source: moby `api/types/types.go` (ImageInspect, ContainerJSON).
Differs from docker: what a daemon, cgroups and networks would answer for is left out, and
`GraphDriver.Data` names the trees of our layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from layerstore.containers import Container
from layerstore.errors import StoreError
from layerstore.image_config import Object
from layerstore.images import Image
from layerstore.layers import Layer
from layerstore.reference import familiar
from layerstore.store import Store
from layerstore.timestamps import format_timestamp
from mount_tools.cli.container_words import command_words
from mount_tools.cli.ps_cmd import base_size
from mount_tools.cli.template_functions import Labels, Value

DRIVER = "pyunion"
NO_TIME = "0001-01-01T00:00:00Z"

# Go prints each field of its struct, whether it was set or not.
CONFIG: dict[str, Value] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def image_document(store: Store, image: Image) -> dict[str, Value]:
    """Return what there is to tell of an image."""
    config = store.images.config(image)
    layers = _chain(store, image)
    variant: dict[str, Value] = {"Variant": config.variant} if config.variant else {}
    return {
        "Id": image.id,
        "RepoTags": [familiar(reference) for reference in image.tags],
        "RepoDigests": [familiar(reference) for reference in image.repo_digests],
        "Parent": image.parent or "",
        "Comment": config.comment,
        "Created": config.created or NO_TIME,
        "DockerVersion": str(config.fields.get("docker_version") or ""),
        "Author": config.author,
        "Config": _config(config.config),
        "Architecture": image.architecture,
        **variant,
        "Os": image.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": _driver([layer.diff for layer in layers]),
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": NO_TIME},
    }


def container_document(store: Store, container: Container, *, size: bool) -> dict[str, Value]:
    """Return what there is to tell of a container."""
    words = command_words(container)
    sizes: dict[str, Value] = {}
    if size:
        own = store.containers.size(container)
        sizes = {"SizeRw": own, "SizeRootFs": own + base_size(store, container)}
    trees = [store.containers.upper(container), *store.containers.lowers(container)]
    driver = _driver(trees)
    data = driver["Data"]
    assert isinstance(data, dict)
    data |= {
        "MergedDir": container.mount_point or "",
        "WorkDir": str(store.containers.work(container)),
    }
    return {
        "Id": container.id,
        "Created": format_timestamp(container.created_ns),
        "Path": words[0] if words else "",
        "Args": words[1:],
        "State": {
            "Status": container.status,
            "Running": container.running,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": False,
            "Dead": False,
            "Pid": container.pid or 0,
            "ExitCode": container.exit_code or 0,
            "Error": "",
            "StartedAt": _moment(container.started_ns),
            "FinishedAt": _moment(container.finished_ns),
        },
        "Image": container.image,
        "Name": f"/{container.name}",
        "RestartCount": 0,
        "Driver": DRIVER,
        "Platform": "linux",
        "HostConfig": {"AutoRemove": container.auto_remove},
        "GraphDriver": driver,
        **sizes,
        "Mounts": [],
        "Config": _config({"Image": container.image_name, **container.config}),
    }


def _chain(store: Store, image: Image) -> list[Layer]:
    try:
        return store.layers.chain(image.top)
    except StoreError:
        return []  # a layer lost its files, which `check` tells; the rest is still worth telling


def _driver(trees: Sequence[Path]) -> dict[str, Value]:
    data: dict[str, Value] = {}
    if len(trees) > 1:
        data["LowerDir"] = ":".join(map(str, trees[1:]))
    if trees:
        data["UpperDir"] = str(trees[0])
    return {"Data": data, "Name": DRIVER}


def _config(config: Object) -> dict[str, Value]:
    known: dict[str, Value] = {**CONFIG, **config}
    labels = known["Labels"]
    if isinstance(labels, dict):
        known["Labels"] = Labels(labels)
    return known


def _moment(ns: int | None) -> str:
    return NO_TIME if ns is None else format_timestamp(ns)
