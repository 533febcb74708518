"""Small images for a store: layers made of a dictionary of files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from layerstore import Digest, Image, ImageConfig, Layer, Store
from layerstore.layer.index import scan, write_index
from layerstore.layer.tar_split import SplitWriter
from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import Object

CREATED = "2024-05-06T07:08:09.000000001Z"

Files = Mapping[str, bytes]


def add_layer(store: Store, parent: Digest | None, files: Files) -> Layer:
    """Publish a layer of `files`; its diff_id is a digest of them, and its tar is empty."""
    with store.layers.stage() as staging:
        for name, content in files.items():
            path = staging.diff / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        write_index(staging.index, scan(staging.diff))
        SplitWriter(staging.tar_split).close()
        size = sum(len(content) for content in files.values())
        return store.layers.publish(staging, parent, diff_id(files), size)


def diff_id(files: Files) -> Digest:
    """Return the diff_id that `add_layer` gives `files`."""
    seen = hashlib.sha256(repr(sorted(files.items())).encode())
    return Digest(f"sha256:{seen.hexdigest()}")


def config_of(layers: Sequence[Digest], *, created: str = CREATED, **more: object) -> ImageConfig:
    """Return a configuration with the layers of these diff_ids and one history entry for each."""
    fields: Object = {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": list(layers)},
        "history": [{"created": created, "created_by": f"layer {n}"} for n in range(len(layers))],
    }
    for name, value in more.items():
        assert value is None or isinstance(value, (str, dict, list))
        fields[name] = value
    return ImageConfig.of(fields)


def add_image(
    store: Store,
    *layers: Files,
    names: Sequence[str] = (),
    parent: Digest | None = None,
    created: str = CREATED,
    **more: object,
) -> Image:
    """Add an image of these layers, the base first, under `names`."""
    with store.leases.lease("work", "test"):
        top: Digest | None = None
        for files in layers:
            top = add_layer(store, top, files).chain_id
        config = config_of([diff_id(files) for files in layers], created=created, **more)
        image = store.images.add(config.data, parent=parent)
    for name in names:
        store.images.tag(image, name)
    return store.images.get(image.id)


def some_digest(text: str) -> Digest:
    """Return a digest made of `text`."""
    return sha256_digest(text.encode())
