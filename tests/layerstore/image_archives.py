"""Archives of images made by hand, as docker, podman, skopeo and buildx write them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

from layerstore.archive.load import Loaded, load
from layerstore.archive.save import save
from layerstore.store import Store
from tests.layerstore.archives import file, folder, whole

BASE = whole(folder(b"etc"), file(b"etc/motd", b"hello"), file(b"etc/gone", b"x"))
TOP = whole(folder(b"etc"), file(b"etc/.wh.gone"), file(b"etc/new", b"y")) + bytes(8192)


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def hex_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_of(*layers: bytes, **fields: object) -> bytes:
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2020-01-02T03:04:05Z",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [sha(layer) for layer in layers]},
            "history": [{"created_by": f"step {n}"} for n in range(len(layers))],
            **fields,
        }
    ).encode()


def tar_of(members: dict[str, bytes], *links: bytes) -> bytes:
    return whole(*[file(name.encode(), data) for name, data in members.items()], *links)


def with_manifest(members: dict[str, bytes], listed: list[dict[str, Any]]) -> bytes:
    """Return an archive of `members` with that manifest.json."""
    return tar_of({**members, "manifest.json": json.dumps(listed).encode()})


def old_docker(*layers: bytes, name: str | None = "box:1", **changes: object) -> bytes:
    """Return an archive as docker wrote before version 25."""
    config = config_of(*layers)
    members = {f"{n}aa/layer.tar": layer for n, layer in enumerate(layers)}
    entry = {
        "Config": f"{hex_of(config)}.json",
        "RepoTags": [name] if name else None,
        "Layers": list(members),
        **changes,
    }
    members[f"{hex_of(config)}.json"] = config
    members["0aa/VERSION"] = b"1.0"
    members["repositories"] = b'{"box":{"1":"0aa"}}'
    members["manifest.json"] = json.dumps([entry]).encode()
    return tar_of(members)


def descriptor(data: bytes, kind: str, **fields: object) -> dict[str, object]:
    kind = f"application/vnd.oci.image.{kind}"
    return {"mediaType": kind, "digest": sha(data), "size": len(data), **fields}


def layout(
    *layers: bytes,
    pack: Callable[[bytes], bytes] = bytes,
    suffix: str = "",
    ref: dict[str, str] | None = None,
    layer_fields: dict[str, object] | None = None,
    **manifest_fields: object,
) -> dict[str, bytes]:
    """Return the files of an OCI layout of one image."""
    config = config_of(*layers)
    packed = [pack(layer) for layer in layers]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(config, "config.v1+json"),
            "layers": [
                descriptor(data, "layer.v1.tar" + suffix, **(layer_fields or {})) for data in packed
            ],
            **manifest_fields,
        },
        indent=1,  # bytes that nobody else would write
    ).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [descriptor(manifest, "manifest.v1+json", annotations=ref or {})],
    }
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **{f"blobs/sha256/{hex_of(data)}": data for data in (config, manifest, *packed)},
    }


REF = {"org.opencontainers.image.ref.name": "docker.io/library/box:1"}


def directory(
    *layers: bytes, pack: Callable[[bytes], bytes] = bytes, **config: object
) -> dict[str, bytes]:
    """Return the files of a `dir:` layout, which is podman's docker-dir too."""
    data = config_of(*layers, **config)
    packed = [pack(layer) for layer in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor(data, "config.v1+json"),
        "layers": [descriptor(layer, "layer.v1.tar+gzip") for layer in packed],
    }
    return {
        "version": b"Directory Transport Version: 1.1\n",
        "manifest.json": json.dumps(manifest).encode(),
        **{hex_of(blob): blob for blob in (data, *packed)},
    }


def many_platforms(*architectures: str) -> dict[str, bytes]:
    """Return the files of a layout with one image index of an image for each architecture."""
    files: dict[str, bytes] = {}
    entries = []
    for name in architectures:
        architecture, _, variant = name.partition("/")
        config = config_of(BASE, architecture=architecture, variant=variant)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "config": descriptor(config, "config.v1+json"),
                "layers": [descriptor(BASE, "layer.v1.tar")],
            }
        ).encode()
        platform = {"os": "linux", "architecture": architecture, "variant": variant}
        entries.append(descriptor(manifest, "manifest.v1+json", platform=platform))
        files |= {f"blobs/sha256/{hex_of(data)}": data for data in (config, manifest, BASE)}
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    named = descriptor(index, "index.v1+json", annotations=REF)
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [named]}).encode(),
        f"blobs/sha256/{hex_of(index)}": index,
        **files,
    }


def loaded(store: Store, archive: bytes) -> list[Loaded]:
    """Load `archive`."""
    return load(store, io.BytesIO(archive))


def saved(store: Store, *names: str, form: str = "docker-archive") -> dict[str, bytes]:
    """Return the files of the archive that `names` are saved to."""
    out = io.BytesIO()
    save(store, names, out, form)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]
