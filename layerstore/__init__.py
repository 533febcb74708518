"""PyUnion's layer store: images of shared layers, and containers over them.

`Store.open()` is where to begin; what hangs on it is documented where it is
defined.  All is synchronous.  Times are ns since 1970, sizes bytes, and errors
`StoreError`s whose text is a sentence for people.

Imports point one way: store -> gc -> image_removal -> containers -> images ->
layers, blobs -> leases -> database -> schema, durability; digest, reference,
image_config and errors know none of them.  Beside them the codec, which knows
no store: unpack, pack, tar_split -> tar_read, tar_write -> feed, tar_headers;
and above both, archive and transfer.
"""

from layerstore.containers.containers import Container
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
