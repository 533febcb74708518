"""Check a store: whether everything in its database exists and is unchanged.

Decided here and only here: what is checked, and what is damage.  Damage means that
something may be lost or wrong; what a killed process left over is harmless.
`layerstore.operations.repair` decides what to do about both.

- database: SQLite's own checks.
- blobs: each has its digest; each that an image or a layer names exists.
- layers: each path of a tree is as in its index; index and tar-split can be read;
  each layer is in its place.
- images: the configuration exists and names the same layers as the row, which exist.
- containers: the directory exists, and so do the layers beneath it.
- volumes: the directory exists, and the first content was moved in completely.
- leftovers: layers, blobs, directories and staging that no row or lease names; files of others
  among ours.  A begun download is none: the next pull goes on with it, and a prune removes it.

Other processes may work in the store meanwhile.  If something is removed while it is
checked, that is no finding, and neither is anything that they lease.

Threading: any thread.  Source: containers/storage `storage check` for the list.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from layerstore import build_caches
from layerstore.errors import DigestMismatch, InvalidImage, NotFound, StoreError
from layerstore.layer.index import compare, read_index
from layerstore.layer.tar_split import archive_size
from layerstore.oci.digest import Digest, VerifyingReader, chain_id
from layerstore.oci.documents import ImageConfig
from layerstore.progress import Progress, Report, Status, silent
from layerstore.volumes import FILLING
from unionfs.light_typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from layerstore.containers.container import Container
    from layerstore.images.rows import Image
    from layerstore.layers import Layer
    from layerstore.store import Store

Kind = Literal["database", "blob", "layer", "image", "container", "volume", "directory", "staging"]


NAMES_ONLY = ("tags", "repo_digests", "manifests", "build_steps")
"""The tables whose rows are of no use without the image or the layer that they name."""


class Repair(NamedTuple):
    """What a repair did about a finding, as text; if not `done`, why it did nothing.

    What was only moved aside is not `restored`.
    """

    done: bool
    what: str
    restored: bool = True

    def __str__(self) -> str:
        return self.what if self.done else f"not repaired: {self.what}"


class Finding(NamedTuple):
    """One thing in a store that is missing, changed or left over.

    `key` names it: a digest, a container's id, a path beneath the root.  `path`
    is the path within a layer, `table` that of a row without the row it names.
    `harmless` means that it only takes space.  `repairable` is false if it is known
    that a repair does nothing about it.  `repair` is None if no repair was requested,
    or none is needed any more.
    """

    kind: Kind
    key: str
    problem: str
    path: bytes = b""
    table: str = ""
    harmless: bool = False
    repairable: bool = True
    repair: Repair | None = None

    def __str__(self) -> str:
        what = self.key
        if self.kind in ("layer", "image"):
            what = f"{self.kind} {Digest(self.key).short}"
        elif self.kind in ("blob", "container", "volume"):
            what = f"{self.kind} {self.key}"
        where = f": {self.path.decode('utf-8', 'backslashreplace')}" if self.path else ""
        done = f" ({self.repair})" if self.repair is not None else ""
        return f"{what}{where} {self.problem}{done}"

    @property
    def is_damage(self) -> bool:
        """Whether something is or may be lost, and no repair restored it."""
        repair = self.repair
        return not self.harmless and not (repair is not None and repair.done and repair.restored)


def check(store: Store, *, content: bool = True, report: Report = silent) -> list[Finding]:
    """Return a finding for everything that is missing, changed or left over in the store.

    Without `content` no file is read: a file of a layer counts as unchanged if its size
    and time are, and a blob if it exists.
    """
    return list(_findings(store, content=content, report=report))


def _findings(store: Store, *, content: bool, report: Report) -> Iterator[Finding]:
    yield from _database(store)
    yield from _blobs(store, content=content, report=report)
    yield from _layers(store, content=content, report=report)
    yield from check_users(store)
    for volume in store.volumes.list():
        yield from _volume(store, volume.name)
    yield from _strays(store)


def check_users(store: Store) -> Iterator[Finding]:
    """Yield the findings of what uses layers: images and containers."""
    for image in store.images.all():
        yield from _image(store, image)
    for container in store.containers.list():
        yield from _container(store, container)


def _database(store: Store) -> Iterator[Finding]:
    for answer in store.database.select(str, "PRAGMA integrity_check"):
        if answer != "ok":
            yield Finding("database", "store.db", f"is damaged: {answer}", repairable=False)
    for table, parent in store.database.dangling():
        problem = f"has a row in {table} without its {parent}"
        repairable = table in NAMES_ONLY
        yield Finding("database", "store.db", problem, table=table, repairable=repairable)


def _blobs(store: Store, *, content: bool, report: Report) -> Iterator[Finding]:
    named = named_blobs(store)
    for digest in named:
        if not store.blobs.has(digest) and digest in named_blobs(store):
            # What is missing of a layer or a manifest can be made again.
            repairable = not store.images.exists(digest)
            problem = f"is missing; {named[digest]} needs it"
            yield Finding("blob", digest, problem, repairable=repairable)
    for digest in store.blobs.all():
        if digest not in named:
            if store.blobs.unneeded(digest):
                yield Finding("blob", digest, "belongs to nothing", harmless=True)
            continue
        report(Progress(digest.short, Status.VERIFYING))
        if content and not _is_whole(store, digest):
            yield Finding("blob", digest, f"is damaged; {named[digest]} needs it")


def named_blobs(store: Store) -> dict[Digest, str]:
    """Return the blobs that are needed, with the name of an image or layer that needs it."""
    users = store.layers.archives.users()
    found = {blob: f"the layer {chain.short}" for blob, chain in users.items()}
    return found | store.images.named_blobs()


def _is_whole(store: Store, digest: Digest) -> bool:
    try:
        with store.blobs.open(digest) as blob:
            VerifyingReader(blob, digest).finish()
    except DigestMismatch:
        return False
    except NotFound:
        return True  # removed since it was listed; `_blobs` has reported it if it is needed
    return True


def _layers(store: Store, *, content: bool, report: Report) -> Iterator[Finding]:
    for layer in store.layers.all():
        report(Progress(layer.chain_id.short, Status.VERIFYING_LAYER))
        yield from _settled(store, layer, content=content)
    for chain in store.layers.unneeded():
        yield Finding("layer", chain, "belongs to no image", harmless=True)
    for chain in store.layers.unsettled():
        problem = "is not in its place yet: a commit was interrupted"
        yield Finding("layer", chain, problem, harmless=True)


def _settled(store: Store, layer: Layer, *, content: bool) -> list[Finding]:
    """Return the findings of a layer; check again if a commit moved it meanwhile."""
    while True:
        findings = list(_layer(store, layer, content=content))
        now = store.layers.known(layer.chain_id)
        if now is None:
            return []
        if not findings or now.path == layer.path:
            return findings
        layer = now


def _layer(store: Store, layer: Layer, *, content: bool) -> Iterator[Finding]:
    if layer.chain_id != chain_id(layer.parent, layer.diff_id):
        yield Finding("layer", layer.chain_id, "does not have the chain_id of what it is made of")
    if not layer.diff.is_dir():
        yield _lost(store, layer)
        return
    try:
        archive_size(layer.path)
    except (InvalidImage, OSError) as error:
        yield Finding("layer", layer.chain_id, f"cannot be saved: {error}")
    try:
        index = {entry.path: entry for entry in read_index(layer.index)}
    except (InvalidImage, OSError) as error:
        yield Finding("layer", layer.chain_id, f"cannot be checked: {error}")
        return
    try:
        for path, what in compare(layer.diff, index, content=content):
            yield Finding("layer", layer.chain_id, what, path or b".")
    except OSError as error:
        yield Finding("layer", layer.chain_id, f"cannot be read: {error}")


def _lost(store: Store, layer: Layer) -> Finding:
    problem = "has lost its files"
    if layer.is_elsewhere:
        problem += f": {layer.diff}, in another store, is gone"
    try:
        store.layers.chain(layer.parent)
        repairable = bool(store.layers.archives.of(layer.diff_id))
    except NotFound:
        repairable = False  # it is unpacked upon the layers beneath it
    return Finding("layer", layer.chain_id, problem, repairable=repairable)


def _image(store: Store, image: Image) -> Iterator[Finding]:
    try:
        config = ImageConfig.parse(store.blobs.read(image.id))
    except NotFound:
        if store.images.exists(image.id):
            problem = "has lost its configuration; load it again"
            yield Finding("image", image.id, problem, repairable=False)
        return
    except (DigestMismatch, InvalidImage) as error:
        yield Finding("image", image.id, f"cannot be used: {error}", repairable=False)
        return
    if image.top != (config.chain[-1] if config.chain else None):
        problem = "is not of the layers that its configuration names"
        yield Finding("image", image.id, problem, repairable=False)
    for chain in config.chain:
        if store.layers.find(chain) is None and store.images.exists(image.id):
            problem = f"cannot be mounted without the layer {chain.short}; load it again"
            yield Finding("image", image.id, problem, repairable=False)


def _container(store: Store, container: Container) -> Iterator[Finding]:
    directory = container.directory
    missing = [name for name in ("upper", "work") if not (directory / name).is_dir()]
    if not directory.is_dir():
        missing = ["directory"]
    try:
        store.containers.lowers(container)
        layer_lost = ""
    except StoreError as error:
        layer_lost = str(error)
    if not store.containers.exists(container.id):
        return
    for name in missing:
        problem = f"has lost its {name}"
        yield Finding("container", container.name, problem, repairable=name != "directory")
    if layer_lost:
        problem = f"cannot be mounted: {layer_lost}"
        yield Finding("container", container.name, problem, repairable=False)


def _volume(store: Store, name: str) -> Iterator[Finding]:
    lost = not store.volumes.data(name).is_dir()
    begun = os.path.lexists(store.volumes.directory(name) / FILLING)
    if name not in {volume.name for volume in store.volumes.list()}:
        return
    if lost:
        yield Finding("volume", name, "has lost its directory")
    elif begun and not store.volumes.busy(name):
        problem = "has only a part of its image's files yet: a start was interrupted"
        yield Finding("volume", name, problem, harmless=True)


def _strays(store: Store) -> Iterator[Finding]:
    for name in store.layers.strays():
        yield Finding("directory", f"layers/{name}", "belongs to no layer", harmless=True)
    for name in store.containers.strays():
        yield Finding("directory", f"containers/{name}", "belongs to no container", harmless=True)
    for name in store.volumes.strays():
        yield Finding("directory", f"volumes/{name}", "belongs to no volume", harmless=True)
    for path in strangers(store):
        problem = "is nothing that the store made"
        yield Finding("directory", os.fspath(path.relative_to(store.root)), problem, harmless=True)
    for path in store.staging.leftovers():
        yield Finding("staging", f"staging/{path.name}", "was left behind", harmless=True)


def strangers(store: Store) -> list[Path]:
    """Return what lies among blobs, downloads, caches and the files of layers and is none."""
    return [
        *store.blobs.strangers(),
        *store.layers.strangers(),
        *store.partial.strangers(),
        *build_caches.strangers(store.build_caches),
    ]
