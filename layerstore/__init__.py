"""PyUnion's layer store: images of shared layers, and containers over them.

This package is the face of the store for programs; `Store.open` is where to begin:

    with Store.open() as store:
        image = store.images.resolve("debian:12")
        container = store.containers.create(image, name="box")

Everything is synchronous.  Times are ns since 1970, sizes are bytes, and errors are
`StoreError`s whose text is a sentence for people.  What spans several rooms (commit,
import, export, garbage collection, check) is in `layerstore.operations`, load and save
in `layerstore.archive`.

The rooms, each importing only from those below it:

    build                 what a build has to do
    registry              images in and out, over the distribution protocol
    operations, archive   what spans several rooms
    store                 the directory, opened; recovery
    containers            uppers over images, and the protocol of a live mount
    images                configurations and names over chains of layers
    layers, blobs         unpacked trees, and content by digest
    volumes               directories that outlive containers
    layer                 the codec: a tree to a tar and back; knows no store
    diff, tar             two trees compared; the tar format
    db                    store.db, leases, staging
    containerfile         the grammar of Containerfiles, and what an instruction changes
    oci                   the documents and names of the OCI specifications
    progress, limits, errors

The names below are imported when they are first used, since a command that needs one
of them should not wait for all.
"""

from __future__ import annotations

from unionfs.lazy_names import lazy_names
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.containers.container import Container
    from layerstore.errors import StoreError
    from layerstore.images.images import Image, ImageConfig
    from layerstore.layers import Layer
    from layerstore.oci.digest import Digest
    from layerstore.oci.reference import Reference, parse_reference
    from layerstore.store import Store, default_root

__all__ = [
    "Container",
    "Digest",
    "Image",
    "ImageConfig",
    "Layer",
    "Reference",
    "Store",
    "StoreError",
    "default_root",
    "parse_reference",
]

_HOMES = {
    "Container": "containers.container",
    "Digest": "oci.digest",
    "Image": "images.rows",
    "ImageConfig": "oci.documents",
    "Layer": "layers",
    "Reference": "oci.reference",
    "Store": "store",
    "StoreError": "errors",
    "default_root": "store",
    "parse_reference": "oci.reference",
}


if not TYPE_CHECKING:  # a checker must not take any name for one of ours
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
