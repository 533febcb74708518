"""commit: the upper of a container becomes a layer, and the container an image.

Decided here and only here: the order of the steps, so that a crash between any two
loses nothing.

1. The upper is frozen to `containers/<id>/layers/<n>/diff`: by the mount itself through
   its control socket if there is one, otherwise here.  From then on it is one of the
   container's own lowers, even if the remaining steps fail.
2. Its diff_id is computed; the container does not wait for that.
3. One transaction makes the frozen upper a layer at its present place, adds the image and
   its name, and makes the new chain the container's base.
4. The layer is moved to the place of layers.

The frozen upper of an interrupted commit is beneath the new one, and becomes a layer of
the image too.

After a commit every file that the container had written is in a lower layer.  The first
write to such a file copies it up again, as the first write to a file of the image does: a
program that writes to a large file all the time pays for that copy after each commit.
Files that were open during the freeze are copied by the freeze, so their
writers do not wait again.

With `prune_unchanged` unchanged copies are removed from a frozen upper, unless
it is mounted.  In that case the mount keeps it, the container keeps its base, and
the image gets a copy of the layer without them.

Source: moby `daemon/commit.go`, `daemon/images/image_commit.go`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from layerstore.containerfile.changes import apply_changes
from layerstore.containers import control_client as control
from layerstore.containers.container import Container, socket_path
from layerstore.containers.control_client import NoMount
from layerstore.db.staging import remove_tree
from layerstore.errors import InUse, LimitExceeded, NotFound, StoreError
from layerstore.images.images import Image
from layerstore.layer.flatten import PackStream
from layerstore.layer.pack import Packed, Packing, pack
from layerstore.layer.unchanged import drop_unchanged, find_unchanged
from layerstore.layer.unpack import unpack
from layerstore.layers import Layer
from layerstore.limits import MAX_LAYERS
from layerstore.oci.digest import Digest, chain_id
from layerstore.oci.documents import HistoryEntry, ImageConfig, Object
from layerstore.oci.platform import this_platform
from layerstore.oci.reference import Reference, parse_tag_target
from layerstore.oci.run_config import RunConfig, of_image
from layerstore.oci.timestamps import format_timestamp
from layerstore.operations.write_back import write_back
from layerstore.progress import Progress, Report, Status, silent, ticker
from layerstore.store import Store
from layerstore.tar.pipeline import Writable
from unionfs import UnionConfig, errors, open_union
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.privilege import is_machine_root


class Committed(NamedTuple):
    """The new image, for how many ns requests to the container waited, and what was copied.

    `copied` are the files that were open, `copied_bytes` their bytes.
    """

    image: Image
    pause_ns: int
    copied: tuple[bytes, ...]
    copied_bytes: int


class _Frozen(NamedTuple):
    number: int
    path: Path
    packed: Packed


class _Wanted(NamedTuple):
    """The image that is to be made: its step of the history, its configuration, its name."""

    entry: HistoryEntry
    config: Object
    target: Reference | None


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
    report: Report = silent,
) -> Committed:
    """Make an image of the present state of the container; return it.

    The container may run meanwhile.  Files that are open are copied while its
    requests wait, so that each copy is complete; without `pause` they are copied before
    that.  `changes` are Dockerfile instructions.  Raises StoreError, LimitExceeded if
    the image would have more layers than can be loaded; the container loses nothing.
    """
    target = None if reference is None else parse_tag_target(reference)
    config = apply_changes(of_image(container.config), changes)
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
                layers = _copy_pruned(store, container, report)
            else:
                layers = _pack_all(store, container, report, prune=prune_unchanged)
            wanted = _Wanted(_step_of(container, author, message), config, target)
            image = _publish(store, container, layers, wanted, apart=apart)
            committed = Committed(image, frozen.pause_ns, frozen.copied, frozen.copied_bytes)
            _put_away(store, layers, mounted=frozen.mounted)
    except (StoreError, OSError):
        # The image is complete; the next opening of the store moves the layers that are left.
        if committed is None:
            raise
    return committed


def _step_of(container: Container, author: str, message: str) -> HistoryEntry:
    """Return the step of the image's history that the commit is."""
    return HistoryEntry(
        created=format_timestamp(time.time_ns()),
        created_by=" ".join(RunConfig(container.config).argv),
        author=author,
        comment=message,
    )


def _refuse_too_many(store: Store, container: Container) -> None:
    """Refuse a commit whose image would have more layers than can be loaded.

    Nothing is frozen yet.  An empty upper adds no layer.
    """
    layers = len(store.containers.lowers(container))
    if layers >= MAX_LAYERS and os.listdir(container.upper):
        raise _too_many(container, layers + 1)


def _too_many(container: Container, layers: int) -> LimitExceeded:
    return LimitExceeded(
        f"the image of {container.name} would have {layers} layers, and {MAX_LAYERS} are the most "
        f"an image can have: `pyunion export {container.name} | pyunion import -` makes one layer "
        "of all"
    )


# -- freezing --


class _Freezing(NamedTuple):
    """How a freeze went, as `Committed` has it, and whether a mount did it."""

    mounted: bool
    pause_ns: int = 0
    copied: tuple[bytes, ...] = ()
    copied_bytes: int = 0


def _freeze(store: Store, container: Container, *, pause: bool) -> _Freezing:
    """Freeze the upper to the next free place."""
    directory = container.directory
    place = container.next_frozen()
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


def _freeze_at_rest(store: Store, container: Container, upper_to: Path) -> None:
    """Freeze the upper of a container that is not mounted."""
    containers = store.containers
    config = UnionConfig(
        lowers=tuple(map(os.fsencode, containers.lowers_to_mount(container))),
        upper=os.fsencode(container.upper),
        work=os.fsencode(container.work),
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


# -- layers --


def _pack_all(store: Store, container: Container, report: Report, *, prune: bool) -> list[_Frozen]:
    """Compute the diff_id of each of the container's frozen layers; return the lowest first."""
    below = [layer.diff for layer in store.layers.chain(container.base)]
    done = []
    for number, path in reversed(container.frozen()):
        diff = path / "diff"
        if prune:
            drop_unchanged(diff, below)
        tick = ticker(report, Progress(container.short, Status.COMMITTING))
        for leftover in ("index", "tar-split"):
            (path / leftover).unlink(missing_ok=True)
        packed = pack(diff, below, privileged=is_machine_root(), record=path, tick=tick)
        done.append(_Frozen(number, path, packed))
        below.insert(0, diff)
    return done


def _copy_pruned(store: Store, container: Container, report: Report) -> list[_Frozen]:
    """Publish a copy of each frozen layer without what is unchanged in it; lowest first."""
    chain = store.layers.chain(container.base)
    below, parent = [layer.diff for layer in chain], container.base
    done = []
    for number, path in reversed(container.frozen()):
        diff = path / "diff"
        skip = find_unchanged(diff, below)
        tick = ticker(report, Progress(container.short, Status.COMMITTING))
        packed = pack(diff, below, privileged=is_machine_root(), tick=tick, how=Packing(skip=skip))
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
        pack(diff, lowers, out, privileged=privileged, how=Packing(skip=skip, hashing=False))

    with store.layers.stage() as staging, PackStream(write) as stream:
        made = unpack(stream, staging.path, privileged=privileged, lowers=lowers)
        return store.layers.publish(staging, parent, made.diff_id, made.size)


def _publish(
    store: Store,
    container: Container,
    layers: list[_Frozen],
    wanted: _Wanted,
    *,
    apart: bool,
) -> Image:
    """Publish the frozen `layers`, the image and its name in one transaction.

    If the image has layers `apart` from the container's, those are published already and
    the container stays as it is.
    """
    parent = _image_of_base(store, container)
    filled = [layer for layer in layers if layer.packed.entries]
    made = _derived(_config_of_base(store, container, parent), filled, wanted)
    if len(made.diff_ids) > MAX_LAYERS:
        raise _too_many(container, len(made.diff_ids))  # written to since `_refuse_too_many`
    if filled and not apart:
        # Trees are synced before the rows that name them.
        store.durability.tree(container.directory)
    # Before the transaction: a crash rolls that back, with every row that names the blob.
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
        if wanted.target is not None:
            store.images.tag(image, wanted.target)
        if not apart:
            published = max([container.published, *(layer.number for layer in layers)])
            store.containers.update(container, base=base, published=published)
    return store.images.get(image.id)


def _derived(base: ImageConfig, layers: list[_Frozen], wanted: _Wanted) -> ImageConfig:
    """Return the configuration of the new image: that of its base, and a step for each layer.

    Only the last step has the author and the message.
    """
    made, entry = base, wanted.entry
    for layer in layers:
        last = layer is layers[-1]
        step = entry if last else HistoryEntry(entry.created, entry.created_by)
        made = made.derive(step, diff_id=layer.packed.diff_id, config=wanted.config)
    if not layers:
        empty = entry._replace(empty_layer=True)
        made = made.derive(empty, diff_id=None, config=wanted.config)
    return made


def _put_away(store: Store, layers: list[_Frozen], *, mounted: bool) -> None:
    """Move the layers to the place of layers, and remove what is left of them, if not `mounted`.

    Those without entries are left, and those that the store had already.
    """
    store.layers.settle()
    if mounted:
        return
    for layer in layers:
        with suppress(OSError):
            remove_tree(layer.path)


def _image_of_base(store: Store, container: Container) -> Digest | None:
    """Return the image whose layers are the container's base: its own, or its last commit."""
    return store.images.with_top(container.base, preferred=container.image)


def _config_of_base(store: Store, container: Container, parent: Digest | None) -> ImageConfig:
    """Return the configuration to derive the new one from; its layers are the container's base."""
    if parent is not None:
        return store.images.config(parent)
    # Every image of these layers was removed, so only the layers are known.
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
