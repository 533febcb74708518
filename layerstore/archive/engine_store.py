"""Images of podman, buildah and skopeo, taken from their store without a copy of its layers.

Decided here and only here: how an image in a store of containers/storage is found, and how
its layers become layers of this store.  The tree stays where it is and `diff` is a link to
it; its index and its tar-split are made here.  What the engine's store says about a layer is
not trusted: the tar is made once from the tree, and its digest compared.  But the digest does
not cover everything in the tree, and the tree may change later.  So the engine's store has to
belong to root or to the user, nobody else may be able to write or rename in it, and a tree is
not reached through a link: another user's store could show any directory of the machine in a
container.

The files of an ordinary user's engine belong to sub-ids, which the user's containers here have
in the same order.  The files can be read only inside the user namespace, and the owner of a
directory can be seen only outside of it.  So an image is first found and checked outside, and
then taken inside.

An image may be built upon layers of an additional image store, as `layerstore.operations.offer`
makes one.  Only the names of these layers are known, by the configuration, and the layers have
to be in this store already.

The engine may remove its layers at any time.  An image here that uses them is then damaged, and
`check` says so; to load it again, from anywhere, restores it.

Source: containers/storage layers.go, images.go, store.go:makeBigDataBaseName();
pkg/lockfile; vbatts/tar-split tar/storage/entry.go; containers-transports(5)
"containers-storage:".
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from layerstore.archive.load import Loaded, publish_image
from layerstore.archive.packaged import Packaged
from layerstore.errors import DigestMismatch, InvalidImage, InvalidReference, NotFound, StoreError
from layerstore.layer.engine_split import read_engine_split
from layerstore.layer.index import IndexEntry, scan, write_index
from layerstore.layer.records import OVERRIDE_STAT
from layerstore.layer.tar_split import assemble
from layerstore.layers import Layer
from layerstore.limits import DEFAULT, Limits
from layerstore.oci.digest import Digest, chain_id
from layerstore.oci.documents import ImageConfig
from layerstore.oci.json_values import JSON, Object, text_of
from layerstore.oci.reference import ENGINE_PREFIX, Reference, parse_reference
from layerstore.progress import Progress, Report, Status, silent, ticker
from layerstore.store import Store, user_data
from layerstore.tar.pipeline import Tick
from layerstore.user import user_id
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.privilege import is_machine_root

# The root of a layer has one of them if its files have their owners in attributes.
_MASKED = {
    OVERRIDE_STAT.decode(),
    "user.fuseoverlayfs.override_stat",
    "security.fuseoverlayfs.override_stat",
}

# [DRIVER@ROOT+RUNROOT:OPTIONS]NAME
_SOURCE = re.compile(r"(?:\[(?:overlay@)?(?P<root>[^\]+:]*)[^\]]*\])?(?P<name>[^\[\]]+)")
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{3,64})")
_HEX = re.compile(r"[0-9a-f]{64}")


class EngineImage(NamedTuple):
    """An image as the engine's store has it; `layers` are the ids of its layers, the base first.

    `trees` are the trees of the layers.  `whole` is false if there are layers beneath them in
    an additional image store.
    """

    id: str
    names: tuple[Reference, ...]
    layers: tuple[str, ...]
    trees: tuple[Path, ...] = ()
    whole: bool = True


@dataclass(frozen=True)
class EngineStore:
    """A store of containers/storage in the directory `root`, with the driver overlay."""

    root: Path

    def find(self, name: str) -> EngineImage:
        """Return the image with that name or the beginning of its id; raises NotFound."""
        images = self._lines("overlay-images", "images")
        found = _find(images, name)
        if found is None:
            raise NotFound(f"there is no image {name} in {self.root}")
        parents = {
            text_of(line, "id"): text_of(line, "parent")
            for line in self._lines("overlay-layers", "layers")
        }
        chain: list[str] = []
        at = text_of(found, "layer")
        while at in parents:
            if at in chain or not _HEX.fullmatch(at):
                raise InvalidImage(f"the layers of {name} in {self.root} are not a chain")
            chain.append(at)
            at = parents[at]
        names = tuple(name for name in map(_reference, _names(found)) if name is not None)
        return EngineImage(text_of(found, "id"), names, tuple(reversed(chain)), whole=not at)

    def config(self, image: EngineImage) -> bytes:
        """Return the configuration of `image`."""
        key = base64.b64encode(f"sha256:{image.id}".encode()).decode()
        try:
            return (self.root / "overlay-images" / image.id / f"={key}").read_bytes()
        except OSError as error:
            raise InvalidImage(
                f"the configuration of {image.id[:12]} in {self.root} cannot be read: "
                f"{error.strerror}"
            ) from None

    def tree(self, layer: str) -> Path:
        """Return the tree of a layer; raises NotFound if it is not there."""
        root = Path(os.path.realpath(self.root))
        tree = root / "overlay" / layer / "diff"
        if not tree.is_dir() or os.path.realpath(tree) != os.fspath(tree):
            raise NotFound(f"the tree of the layer {layer[:12]} is not in {self.root}")
        trusted = {0, os.geteuid()}
        for directory in (tree.parent, *tree.parent.parents):
            st = directory.stat()
            writable = st.st_mode & 0o022 and not st.st_mode & stat.S_ISVTX
            if st.st_uid not in trusted or writable:
                but = "root" if len(trusted) == 1 else "root and you"
                raise StoreError(
                    f"the store {self.root} may be changed by other users than {but}, since they "
                    f"can write to {directory} or own it: let its user save the image to an "
                    "archive, and load that"
                )
        return tree

    def tar_split(self, layer: str) -> Path:
        """Return the file that says how the tar of a layer is made of its tree."""
        return self.root / "overlay-layers" / f"{layer}.tar-split.gz"

    def _lines(self, folder: str, name: str) -> list[Object]:
        """Return the objects of a JSON file, read while no engine writes it."""
        directory = self.root / folder
        try:
            with _locked(directory / f"{name}.lock"):
                data = (directory / f"{name}.json").read_bytes()
        except FileNotFoundError:
            raise NotFound(
                f"{self.root} is not a store of podman or buildah with the driver overlay; "
                f"for one that is elsewhere give {ENGINE_PREFIX}[DIRECTORY]IMAGE"
            ) from None
        except OSError as error:
            raise StoreError(f"{directory} cannot be read: {error.strerror}") from error
        try:
            lines = json.loads(data)
        except ValueError as error:
            raise InvalidImage(f"{directory / name}.json is damaged: {error}") from None
        return [line for line in lines if isinstance(line, dict)] if lines else []


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a store of containers/storage for reading; it is a record lock."""
    with path.open("rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH)
        yield


def parse_source(text: str) -> tuple[EngineStore, str]:
    """Return the store and the name in `containers-storage:[[overlay@ROOT]]NAME`.

    Raises InvalidReference, and StoreError if the user has no home directory for one.
    """
    found = _SOURCE.fullmatch(text.removeprefix(ENGINE_PREFIX))
    if found is None:
        raise InvalidReference(
            f"{text}: give {ENGINE_PREFIX}IMAGE, or, for a store elsewhere, "
            f"{ENGINE_PREFIX}[DIRECTORY]IMAGE"
        )
    root = Path(found["root"]) if found["root"] else _default_root()
    return EngineStore(root), found["name"]


def _default_root() -> Path:
    if user_id() == 0:
        return Path("/var/lib/containers/storage")
    return user_data() / "containers" / "storage"


def _find(images: list[Object], name: str) -> Object | None:
    wanted = set()
    for text in (name, f"localhost/{name}"):
        reference = _reference(text)
        if reference is not None:
            wanted.add(reference.with_default_tag())
    for line in images:
        if any(_reference(known) in wanted for known in _names(line)):
            return line
    found = _ID.fullmatch(name)
    same = [line for line in images if found and text_of(line, "id").startswith(found[1])]
    return same[0] if len(same) == 1 else None


def _names(line: Object) -> list[str]:
    names: JSON = line.get("names")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _reference(text: str) -> Reference | None:
    try:
        return parse_reference(text)
    except InvalidReference:
        return None


def find_in_engine(text: str) -> tuple[EngineStore, EngineImage]:
    """Find the image that `text` names, as `parse_source` reads it, and check who may change it.

    An ordinary user has to be outside of the user namespace.  Raises InvalidReference,
    InvalidImage, NotFound, StoreError.
    """
    source, name = parse_source(text)
    if os.geteuid() == 0 and not is_machine_root():
        raise StoreError(
            "in a user namespace nobody can see who may change a store: load the image outside "
            f"of it, by `pyunion load -i {text}`, and give its name"
        )
    image = source.find(name)
    return source, image._replace(trees=tuple(map(source.tree, image.layers)))


def load_from_engine(
    store: Store,
    found: tuple[EngineStore, EngineImage],
    *,
    report: Report = silent,
    limits: Limits = DEFAULT,
) -> list[Loaded]:
    """Bring what `find_in_engine` has found into the store.

    An ordinary user has to be in the user namespace of their containers.  Raises InvalidImage,
    DigestMismatch, NotFound, StoreError.
    """
    source, image = found
    with store.leases.lease("work", "load"):
        packaged = _bring(store, source, image, report, limits)
        config = ImageConfig.parse(packaged.config)
        with store.database.transaction():
            return publish_image(store, config, packaged, set())


def _bring(
    store: Store,
    source: EngineStore,
    image: EngineImage,
    report: Report,
    limits: Limits,
) -> Packaged:
    """Make the layers and the configuration of `image` the store's; return the image."""
    data = source.config(image)
    config = ImageConfig.parse(data)
    if config.id != f"sha256:{image.id}":
        raise DigestMismatch(f"the configuration of {image.id[:12]} has the digest {config.id}")
    beneath = len(config.diff_ids) - len(image.layers)
    if (beneath != 0 if image.whole else beneath < 1) or len(config.diff_ids) > limits.layers:
        raise InvalidImage(f"{image.id[:12]} has {len(image.layers)} layers in {source.root}")
    parent: Digest | None = None
    for diff_id in config.diff_ids[:beneath]:
        parent = chain_id(parent, diff_id)
        if store.layers.need(parent) is None:
            raise NotFound(
                f"{image.id[:12]} is built upon the layer {diff_id.short} of an additional image "
                "store, which is not here: load or pull the image that it was built upon first"
            )
    own = config.diff_ids[beneath:]
    for layer, tree, diff_id in zip(image.layers, image.trees, own, strict=True):
        chain = chain_id(parent, diff_id)
        if store.layers.need(chain) is None:
            tick = ticker(report, Progress(diff_id.short, Status.CHECKING))
            _link(store, source, layer, tree, parent, diff_id, tick)
        parent = chain
    store.blobs.put(config.data)
    names = tuple(name for name in image.names if name.digest is None)
    return Packaged(config=data, layers=(), names=names)


def _link(
    store: Store,
    source: EngineStore,
    layer: str,
    tree: Path,
    parent: Digest | None,
    diff_id: Digest,
    tick: Tick,
) -> Layer:
    """Publish a layer whose tree is `tree`, that of `layer` in `source`."""
    if not _MASKED.isdisjoint(os.listxattr(tree)):
        raise StoreError(
            f"the store {source.root} has the owners and modes of its files in attributes "
            "(force_mask), which a container here would not show: copy the image, by "
            "`podman save` and `pyunion load`"
        )
    with store.layers.stage() as staging:
        staging.diff.rmdir()
        staging.diff.symlink_to(tree)
        read_engine_split(source.tar_split(layer), staging.tar_split)
        made = assemble(staging.path, None, tick=tick)
        if made.diff_id != diff_id:
            raise DigestMismatch(
                f"the layer {layer[:12]} in {source.root} was changed: "
                f"its digest is {made.diff_id.short}, not {diff_id.short}"
            )
        size = 0

        def counted() -> Iterator[IndexEntry]:
            nonlocal size
            for entry in scan(tree):
                size += entry.size
                yield entry

        write_index(staging.index, counted())
        return store.layers.publish(staging, parent, diff_id, size)
