"""offer: let podman, buildah and skopeo use images of the store, without a copy of their layers.

Decided here and only here: what an additional image store of containers/storage looks like
whose layers are links to those of this store.  The engines change nothing of it; with a mount
program they make mount points in it.

    overlay/ID/diff, link, lower     a link to the layer's tree, and what is beneath it
    overlay/l/SHORT                  a link to that, with a name short enough for mount(2)
    overlay-layers/layers.json       the layers
    overlay-layers/ID.tar-split.gz   how the tar of a layer is made of its tree
    overlay-images/images.json, ID/  the images, with a manifest and the configuration

The ID of a layer is its chain_id.  For a tar-split each file of the layer is read once, so that
of an earlier offer is used again.  A layer with too much of what `layerstore.layer.engine_split`
copies has none: the engines can run, mount and build upon its image, and not push or save it.  The
layers of an ordinary user have owners in attributes, see `layerstore.layer.metadata`, which the
engines read with a mount program and a force_mask.

Source: containers/storage drivers/overlay/overlay.go:dir2(), getLowerDirs(); layers.go,
images.go, store.go:makeBigDataBaseName(); containers-storage.conf(5)
"additionalimagestores".
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from layerstore.db.beside import NewDirectory
from layerstore.errors import Conflict, StoreError
from layerstore.images.images import Image
from layerstore.layer.engine_split import write_engine_split
from layerstore.layer.tar_split import archive_size
from layerstore.layers import Layer
from layerstore.oci.digest import Digest
from layerstore.oci.documents import OCI_CONFIG, OCI_LAYER, Descriptor, Manifest, Object
from layerstore.oci.timestamps import format_timestamp
from layerstore.store import Store
from unionfs.syscalls.renameat2 import AT_FDCWD, RENAME_EXCHANGE, renameat2

_MARK = "made-by-pyunion"
_LOCKS = ("overlay-layers/layers.lock", "overlay-images/images.lock")
_SHORT = 26  # characters of the names in `overlay/l`


def offer(store: Store, directory: Path, images: Sequence[Image]) -> None:
    """Make `directory` an additional image store of `images`, in place of an earlier one.

    The images have to stay in the store as long as engines use the directory.  Raises
    StoreError if it cannot be made, Conflict if it is something else, InvalidImage or
    DigestMismatch if a layer is damaged.
    """
    if directory.exists() and os.listdir(directory) and not (directory / _MARK).exists():
        raise Conflict(f"{directory} is not a store that pyunion made; give another directory")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with closing(NewDirectory(directory)) as fresh:
            _write(store, fresh.path, images, directory)
            os.fchmod(fresh.fd, 0o755)
            _replace(directory, fresh)
    except OSError as error:
        raise StoreError(f"{directory} cannot be made: {error.strerror}") from error


def _replace(directory: Path, fresh: NewDirectory) -> None:
    """Put `fresh` in the place of `directory`, and what was there in the place of `fresh`.

    Engines find one of the two at any time, where the filesystem can exchange them.
    """
    try:
        names = os.fsencode(fresh.path.absolute()), os.fsencode(directory.absolute())
        renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
        return
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
    with closing(NewDirectory(directory)) as old:
        with suppress(FileNotFoundError):
            os.rename(directory, old.path)
        os.rename(fresh.path, directory)


def _write(store: Store, top: Path, images: Sequence[Image], earlier: Path) -> None:
    for name in ("overlay/l", "overlay-layers", "overlay-images"):
        (top / name).mkdir(parents=True)
    for name in _LOCKS:
        (top / name).touch()
    (top / _MARK).write_text("by `pyunion offer`, which replaces this directory\n")
    layers: dict[Digest, Object] = {}
    shown = []
    for image in images:
        chain = store.layers.chain(image.top)
        for position in reversed(range(len(chain))):  # a parent before its children
            layer = chain[position]
            if layer.chain_id not in layers:
                beneath = chain[position + 1 :]
                layers[layer.chain_id] = _write_layer(top, layer, beneath)
                _write_split(top, layer, beneath, earlier)
        shown.append(_write_image(store, top, image, chain))
    (top / "overlay-layers/layers.json").write_text(json.dumps(list(layers.values())))
    (top / "overlay-images/images.json").write_text(json.dumps(shown))


def _write_layer(top: Path, layer: Layer, beneath: Iterable[Layer]) -> Object:
    """Write the directory of a layer; return its line in layers.json."""
    own = top / "overlay" / layer.chain_id.encoded
    own.mkdir()
    (own / "diff").symlink_to(layer.diff)
    (own / "link").write_text(_short(layer))
    (top / "overlay/l" / _short(layer)).symlink_to(f"../{layer.chain_id.encoded}/diff")
    lower = ":".join(f"l/{_short(below)}" for below in beneath)
    if lower:
        (own / "lower").write_text(lower)
    else:
        (own / "empty").mkdir()  # what the engines mount beneath a layer that is alone
    fields: Object = {
        "id": layer.chain_id.encoded,
        "created": format_timestamp(layer.path.stat().st_mtime_ns),
        "diff-digest": layer.diff_id,
        "diff-size": archive_size(layer.path),
    }
    if layer.parent is not None:
        fields["parent"] = layer.parent.encoded
    return fields


def _write_split(top: Path, layer: Layer, beneath: Iterable[Layer], earlier: Path) -> None:
    name = f"overlay-layers/{layer.chain_id.encoded}.tar-split.gz"
    try:
        os.link(earlier / name, top / name)
    except FileNotFoundError:
        write_engine_split(layer.path, [below.diff for below in beneath], top / name)


def _short(layer: Layer) -> str:
    digest = hashlib.sha256(layer.chain_id.encode()).digest()
    return base64.b32encode(digest).decode()[:_SHORT]


def _write_image(store: Store, top: Path, image: Image, chain: Sequence[Layer]) -> Object:
    """Write the directory of an image; return its line in images.json."""
    config = store.blobs.read(image.id)
    layers = tuple(
        Descriptor(OCI_LAYER, layer.diff_id, archive_size(layer.path)) for layer in chain[::-1]
    )
    manifest = Manifest.of(Descriptor(OCI_CONFIG, image.id, len(config)), layers)
    own = top / "overlay-images" / image.id.encoded
    own.mkdir()
    data = {"manifest": manifest.data, f"manifest-{manifest.digest}": manifest.data}
    data[str(image.id)] = config
    for key, value in data.items():
        (own / _file_name(key)).write_bytes(value)
    fields: Object = {
        "id": image.id.encoded,
        "digest": str(manifest.digest),
        "names": [str(name) for name in image.tags],
        "metadata": "{}",
        "big-data-names": list(data),
        "big-data-sizes": {key: len(value) for key, value in data.items()},
        "big-data-digests": {
            key: f"sha256:{hashlib.sha256(value).hexdigest()}" for key, value in data.items()
        },
        "created": format_timestamp(image.created_ns),
    }
    if chain:
        fields["layer"] = chain[0].chain_id.encoded
    return fields


def _file_name(key: str) -> str:
    """Return the name of the file with the data `key`."""
    if key and all(c == "." or (c.isascii() and (c.isdigit() or c.islower())) for c in key):
        return key
    return "=" + base64.b64encode(key.encode()).decode()
