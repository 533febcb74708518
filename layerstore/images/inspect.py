"""The document that `inspect` prints for an image, in docker's fields.

Decided here and only here: the names and the shape of the fields, which are
those of `docker image inspect`.

Source: docker's API, ImageInspect; moby `daemon/images/image_inspect.go`.
"""

from __future__ import annotations

from layerstore.images.rows import Image
from layerstore.layers import Layer
from layerstore.oci.documents import JSON, ImageConfig, Object
from layerstore.oci.reference import familiar
from layerstore.oci.timestamps import format_timestamp

_DRIVER = "pyunion"

# docker shows these whether the configuration has them or not.
NO_CONFIG: Object = {
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


def inspect_image(
    image: Image, config: ImageConfig, layers: list[Layer], tagged_ns: int | None
) -> Object:
    """Return the document of `image`; `layers` are its layers, the topmost first."""
    docker_version, os_version = (
        text if isinstance(text, str) else ""
        for text in (config.fields.get(name) for name in ("docker_version", "os.version"))
    )
    found: Object = {
        "Id": image.id,
        "RepoTags": [familiar(tag) for tag in image.tags],
        "RepoDigests": [familiar(digest) for digest in image.repo_digests],
        "Parent": image.parent or "",
        "Comment": config.comment,
        "Created": config.created or format_timestamp(0),
        "DockerVersion": docker_version,
        "Author": config.author,
        "Config": {**NO_CONFIG, **config.config},
        "Architecture": image.architecture,
        **({"Variant": config.variant} if config.variant else {}),
        "Os": image.os or "linux",
        **({"OsVersion": os_version} if os_version else {}),
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Data": _graph(layers), "Name": _DRIVER},
        "RootFS": _rootfs(config),
        "Metadata": {"LastTagTime": format_timestamp(tagged_ns) if tagged_ns else None},
    }
    return found


def _graph(layers: list[Layer]) -> Object:
    """Return where the layers are, in the fields of docker's driver overlay2."""
    if not layers:
        return {}
    lowers: Object = {}
    if len(layers) > 1:
        lowers["LowerDir"] = ":".join(str(layer.diff) for layer in layers[1:])
    return {**lowers, "UpperDir": str(layers[0].diff), "ChainID": layers[0].chain_id}


def _rootfs(config: ImageConfig) -> Object:
    diff_ids: list[JSON] = list(config.diff_ids)
    return {"Type": "layers", **({"Layers": diff_ids} if diff_ids else {})}
