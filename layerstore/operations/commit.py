"""commit: a container's upper becomes a layer, and the layer an image, in an instant.

Decided here and only here: the order of steps, so that nothing is lost by a
crash between any two.

1. The upper is frozen to `containers/<id>/layers/<n>/diff`: by the mount itself
   where there is one, through its control socket, else here.  From then on
   it is one of the container's own lowers, whatever becomes of the rest.
2. Its diff_id is computed; nobody waits meanwhile.
3. One transaction makes it a layer where it lies, adds the image and its
   name, and sets the container on the new chain.
4. The layer moves to its own place.

A frozen layer of a commit that was cut short lies beneath the new one, and
becomes a layer of the image too.

Unchanged copies are dropped from a frozen layer where it lies, unless it is
mounted.  Then the mount keeps it, the container stays on the base it has, and
the image gets a copy without them: what loading the archive of that would make.

Source: moby `daemon/commit.go`, `daemon/images/image_commit.go`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from layerstore.containers import control_client as control
from layerstore.containers.containers import Container
from layerstore.containers.control_client import NoMount
from layerstore.containers.control_protocol import socket_path
from layerstore.errors import InUse, LimitExceeded, NotFound, StoreError
from layerstore.images.images import Image
from layerstore.layer.flatten import PackStream
from layerstore.layer.pack import Packed, pack
from layerstore.layer.unchanged import drop_unchanged, find_unchanged
from layerstore.layer.unpack import unpack
from layerstore.layers import Layer
from layerstore.limits import MAX_LAYERS
from layerstore.oci.digest import Digest, chain_id
from layerstore.oci.dockerfile import apply_changes
from layerstore.oci.documents import HistoryEntry, ImageConfig, Object
from layerstore.oci.platform import this_platform
from layerstore.oci.reference import Reference, parse_tag_target
from layerstore.oci.timestamps import format_timestamp
from layerstore.operations.write_back import write_back
from layerstore.progress import Report, ticker
from layerstore.store import Store
from layerstore.tar.pipeline import Writable
from unionfs import UnionConfig, errors, open_union
from unionfs.syscalls.privilege import is_machine_root

# What of a container's configuration is its own and not of the image made from it.
_ITS_OWN = frozenset(("HostConfig", "Hostname", "Image", "OpenStdin", "Tty"))


@dataclass(frozen=True)
class Committed:
    """The new image, how long requests to the container waited, and for which copies."""

    image: Image
    pause_ns: int
    copied: tuple[bytes, ...]
    copied_bytes: int


@dataclass(frozen=True)
class _Frozen:
    number: int
    path: Path
    packed: Packed


def commit(
    store: Store,
    container: Container,
    reference: Reference | str | None = None,
    *,
    author: str = "",
    message: str = "",
    changes: Sequence[str] = (),
    pause: bool = True,
    prune_unchanged: bool = False,
    progress: Report | None = None,
) -> Committed:
    """Make an image of what the container is now; return it.

    Files open for writing at that moment are copied while requests wait, so that
    each copy is whole, or with `pause` not set before that.  The container may
    run all the while.  Raises StoreError; the container keeps all it has.
    """
    target = None if reference is None else parse_tag_target(reference)
    config = apply_changes(_runs_with(container), changes)
    committed: Committed | None = None
    try:
        with (
            store.reserve.growing(),
            store.leases.lease("work", "commit"),
            store.containers.lock(container),
        ):
            container = store.containers.get(container.id)
            _refuse_too_many(store, container)
            frozen = _freeze(store, container, pause=pause)
            apart = prune_unchanged and frozen.mounted
            if apart:
                layers = _copy_pruned(store, container, progress)
            else:
                layers = _pack_all(store, container, progress, prune=prune_unchanged)
            entry = HistoryEntry(
                created=format_timestamp(time.time_ns()),
                created_by=_command_line(container),
                author=author,
                comment=message,
            )
            if not apart and any(layer.packed.entries for layer in layers):
                # Trees are synced before the rows that name them.
                store.durability.tree(store.containers.directory(container))
            image = _publish(store, container, layers, entry, config, target, apart=apart)
            committed = Committed(image, frozen.pause_ns, frozen.copied, frozen.copied_bytes)
            store.layers.settle()
            if not frozen.mounted:
                # Nobody has them mounted: layers with nothing in them, or there before.
                for layer in layers:
                    shutil.rmtree(layer.path, ignore_errors=True)
    except (StoreError, OSError):
        # The image is there; what is still to be moved the next opening moves.
        if committed is None:
            raise
    return committed


def _runs_with(container: Container) -> Object:
    return {name: value for name, value in container.config.items() if name not in _ITS_OWN}


def _command_line(container: Container) -> str:
    words = []
    for name in ("Entrypoint", "Cmd"):
        found = container.config.get(name)
        words += [str(word) for word in found] if isinstance(found, list) else []
    return " ".join(words)


def _refuse_too_many(store: Store, container: Container) -> None:
    """Refuse a commit whose image would have more layers than one can be loaded with.

    Nothing is frozen yet.  An empty upper adds no layer.
    """
    layers = len(store.containers.lowers(container))
    if layers >= MAX_LAYERS and os.listdir(store.containers.upper(container)):
        raise _too_many(container, layers + 1)


def _too_many(container: Container, layers: int) -> LimitExceeded:
    return LimitExceeded(
        f"the image of {container.name} would have {layers} layers, and {MAX_LAYERS} are the most "
        f"an image can have: `pyunion export {container.name} | pyunion import -` makes one layer "
        "of all"
    )


# -- freezing --


class _Freezing(NamedTuple):
    """How a freeze went: how long requests waited, and for the copies of which files."""

    mounted: bool
    pause_ns: int = 0
    copied: tuple[bytes, ...] = ()
    copied_bytes: int = 0


def _freeze(store: Store, container: Container, *, pause: bool) -> _Freezing:
    """Freeze the upper."""
    directory = store.containers.directory(container)
    place = directory / "layers" / str(_next_number(store, container))
    upper_to = place / "diff"
    place.mkdir(mode=0o700, parents=True)
    store.durability.directory(place.parent)
    try:
        try:
            write_back(container, socket_path(directory))
            done = control.freeze(socket_path(directory), upper_to, ahead=not pause)
            frozen = _Freezing(True, done.pause_ns, done.copied, done.copied_bytes)
        except NoMount:
            _freeze_at_rest(store, container, upper_to)
            frozen = _Freezing(False)
    except BaseException:
        if not upper_to.exists():
            place.rmdir()
        raise
    store.durability.directory(place)
    return frozen


def _next_number(store: Store, container: Container) -> int:
    """Return the number of the next frozen layer, which nothing has."""
    names = os.listdir(store.containers.directory(container) / "layers")
    numbers = [int(name) for name in names if name.isdecimal()]
    return max([container.published, *numbers]) + 1


def _freeze_at_rest(store: Store, container: Container, upper_to: Path) -> None:
    """Freeze the upper of a container that nobody has mounted."""
    containers = store.containers
    config = UnionConfig(
        lowers=tuple(os.fsencode(path) for path in containers.lowers(container))
        or (os.fsencode(_empty_lower(store, container)),),
        upper=os.fsencode(containers.upper(container)),
        work=os.fsencode(containers.work(container)),
    )
    try:
        union = open_union(config)
    except errors.InUse:
        raise InUse(
            f"the container {container.name} is mounted by a process that does not answer: "
            "unmount it first"
        ) from None
    except errors.ConfigError as error:
        raise StoreError(f"the container {container.name} cannot be opened: {error}") from None
    try:
        union.freeze(os.fsencode(upper_to))
    finally:
        union.close()


def _empty_lower(store: Store, container: Container) -> Path:
    """Return an empty directory for a container of an image without layers to lie on."""
    empty = store.containers.directory(container) / "empty"
    empty.mkdir(mode=0o755, exist_ok=True)
    return empty


# -- layers --


def _pack_all(
    store: Store, container: Container, progress: Report | None, *, prune: bool
) -> list[_Frozen]:
    """Compute what the container's frozen layers are, the lowest first."""
    below = [layer.diff for layer in store.layers.chain(container.base)]
    done = []
    for number, path in reversed(store.containers.frozen(container)):
        diff = path / "diff"
        if prune:
            drop_unchanged(diff, below)
        tick = ticker(progress, container.short, "Committing", None)
        for leftover in ("index", "tar-split"):
            (path / leftover).unlink(missing_ok=True)
        packed = pack(diff, below, privileged=is_machine_root(), record=path, tick=tick)
        done.append(_Frozen(number, path, packed))
        below.insert(0, diff)
    return done


def _copy_pruned(store: Store, container: Container, progress: Report | None) -> list[_Frozen]:
    """Make layers of the store of the container's frozen ones, less what is unchanged in them."""
    chain = store.layers.chain(container.base)
    below, parent = [layer.diff for layer in chain], container.base
    done = []
    for number, path in reversed(store.containers.frozen(container)):
        diff = path / "diff"
        skip = find_unchanged(diff, below)
        tick = ticker(progress, container.short, "Committing", None)
        packed = pack(diff, below, privileged=is_machine_root(), skip=skip, tick=tick)
        done.append(_Frozen(number, path, packed))
        if packed.entries:
            layer = store.layers.need(chain_id(parent, packed.diff_id))
            layer = layer or _copy(store, diff, tuple(below), skip, parent)
            parent = layer.chain_id
            below.insert(0, layer.diff)
    return done


def _copy(
    store: Store,
    diff: Path,
    lowers: Sequence[Path],
    skip: frozenset[bytes],
    parent: Digest | None,
) -> Layer:
    """Publish a copy of the layer `diff` without the paths in `skip`."""
    privileged = is_machine_root()

    def write(out: Writable) -> None:
        pack(diff, lowers, out, privileged=privileged, skip=skip, hashing=False)

    with store.layers.stage() as staging, PackStream(write) as stream:
        made = unpack(stream, staging.path, privileged=privileged, lowers=lowers)
        return store.layers.publish(staging, parent, made.diff_id, made.size)


def _publish(
    store: Store,
    container: Container,
    layers: list[_Frozen],
    entry: HistoryEntry,
    config: Object,
    target: Reference | None,
    *,
    apart: bool,
) -> Image:
    """Make the frozen `layers` layers of the store, and the image and its name, at once.

    Where the image has layers `apart`, they are there and the container stays as it is.
    """
    parent = _image_of_base(store, container)
    made = _config_of_base(store, container, parent)
    filled = [layer for layer in layers if layer.packed.entries]
    for layer in filled:
        last = layer is filled[-1]
        step = entry if last else HistoryEntry(entry.created, entry.created_by)
        made = made.derive(step, diff_id=layer.packed.diff_id, config=config)
    if not filled:
        empty = HistoryEntry(
            entry.created, entry.created_by, entry.author, entry.comment, empty_layer=True
        )
        made = made.derive(empty, diff_id=None, config=config)
    if len(made.diff_ids) > MAX_LAYERS:
        raise _too_many(container, len(made.diff_ids))  # written to since `_refuse_too_many`
    # Before the transaction, which a crash takes back with all that names the blob.
    store.blobs.put(made.data)
    with store.database.transaction():
        base = container.base
        for layer in filled:
            packed = layer.packed
            if not apart:
                store.layers.adopt(layer.path, base, packed.diff_id, packed.size)
            base = chain_id(base, packed.diff_id)
        if parent is not None and not store.images.exists(parent):
            parent = None  # removed meanwhile
        image = store.images.add(made.data, parent=parent)
        if target is not None:
            store.images.tag(image, target)
        if not apart:
            published = max([container.published, *(layer.number for layer in layers)])
            store.containers.update(container, base=base, published=published)
    return store.images.get(image.id)


def _image_of_base(store: Store, container: Container) -> Digest | None:
    """Return the image that the container's base is the layers of: its own, or its last commit."""
    return store.images.with_top(container.base, preferred=container.image)


def _config_of_base(store: Store, container: Container, parent: Digest | None) -> ImageConfig:
    """Return the configuration to derive from, whose layers are the container's base."""
    if parent is not None:
        return store.images.config(parent)
    # Every image of these layers was removed, and only what they are is known.
    diff_ids = [layer.diff_id for layer in reversed(store.layers.chain(container.base))]
    try:
        fields = dict(store.images.config(container.image).fields)
    except NotFound:
        fields = {"architecture": this_platform()[0], "os": "linux"}
    fields["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    history = fields.get("history")
    known = [] if not isinstance(history, list) else history[: len(diff_ids)]
    fields["history"] = known + [{} for _ in range(len(diff_ids) - len(known))]
    return ImageConfig.of(fields)
