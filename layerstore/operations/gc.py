"""Garbage collection: remove images, containers, and what is no longer needed.

Decided here and only here: what is garbage, and that a dry run reports exactly what the
same run would do, since it is that run, rolled back.

Rows are deleted first, in one transaction.  After it the files that they named are removed
from disk, if they still have no row.  If a crash comes between the two, the next opening of
the store removes them, since a lease names them that is left after the process.

Threading: any thread.  Source: moby `daemon/images/image_prune.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from layerstore import build_caches
from layerstore.errors import Conflict, NotFound
from layerstore.images.filters import has_labels
from layerstore.images.removal import ImageRemoval, Removed
from unionfs.light_typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from layerstore.images.rows import Image
    from layerstore.oci.digest import Digest
    from layerstore.store import Store


class Which(NamedTuple):
    """Which of the unused objects are removed.

    They were created until `until_ns`, have all of `labels` and none of `without`.  A label is
    a name and a value, or None for any value.
    """

    until_ns: int | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    without: tuple[tuple[str, str | None], ...] = ()

    def takes_labels(self, labels: dict[str, str]) -> bool:
        """Tell whether it is an object with these `labels`."""
        return has_labels(labels, self.labels) and not any(
            has_labels(labels, [label]) for label in self.without
        )

    def takes_time(self, created_ns: int) -> bool:
        """Tell whether it is an object of this time."""
        return self.until_ns is None or created_ns <= self.until_ns


ANY = Which()


@dataclass(frozen=True)
class Pruned:
    """What was removed: images as lines to print, ids of containers, names of volumes.

    `freed` is in bytes.
    """

    images: list[Removed] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    freed: int = 0


def prune_images(
    store: Store,
    which: Which = ANY,
    *,
    all_unused: bool = False,
    builds: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Remove dangling images, or with `all_unused` all that no container uses.

    With `builds` the steps of the build cache go too that no image or container needs, and
    with `all_unused` all of them.  Layers that nothing needs are removed too.
    """

    # Before the transaction, because configurations are files; they never change.
    labelled: set[Digest] | None = None
    if which.labels or which.without:
        labelled = {
            image.id
            for image in store.images.all()
            if which.takes_labels(store.images.config(image).labels)
        }

    def prune(removal: ImageRemoval) -> None:
        for image in _candidates(store, which, all_unused=all_unused):
            if labelled is not None and image.id not in labelled:
                continue
            names = [str(reference) for reference in image.references] or [image.id.encoded]
            for name in names:
                try:
                    removal.remove(name)
                except (Conflict, NotFound):
                    continue  # in use, or removed with an earlier one
        if builds:
            store.layers.forget_builds(until_ns=which.until_ns, everything=all_unused)
        _free_unreferenced(store, removal)

    removal = _run(store, prune, dry_run=dry_run)
    return Pruned(images=removal.done, freed=removal.freed)


def _run(store: Store, prune: Callable[[ImageRemoval], None], *, dry_run: bool) -> ImageRemoval:
    if dry_run:
        with store.database.rehearsal():
            removal = store.images.removal()
            prune(removal)
        return removal
    with store.leases.lease("work", "prune"):
        with store.database.transaction():
            removal = store.images.removal()
            prune(removal)
        store.images.collect(removal)
    return removal


def _candidates(store: Store, which: Which, *, all_unused: bool) -> list[Image]:
    found = []
    for image in store.images.all():
        if not which.takes_time(image.created_ns):
            continue
        if not image.references and store.images.children(image.id):
            continue  # it is removed with its last child
        if all_unused or not image.tags:
            found.append(image)
    return found


def _free_unreferenced(store: Store, removal: ImageRemoval) -> None:
    """Free the layers that nothing needs, which interrupted loads and commits left."""
    for top in store.layers.unneeded():
        removal.free_layers(top)


def prune_containers(store: Store, which: Which = ANY, *, dry_run: bool = False) -> Pruned:
    """Remove the containers that do not run; their labels do not count."""
    removed: list[str] = []
    freed = 0
    for container in store.containers.list():
        if container.running or not which.takes_time(container.created_ns):
            continue
        size = container.size()
        if not dry_run:
            try:
                store.containers.remove(container)
            except (Conflict, NotFound):
                continue  # started or removed since it was listed
        removed.append(container.id)
        freed += size
    return Pruned(containers=removed, freed=freed)


def prune_volumes(store: Store, which: Which = ANY, *, dry_run: bool = False) -> Pruned:
    """Remove the volumes that no container uses, and their content; their age does not count."""
    removed: list[str] = []
    freed = 0
    used = store.volumes.used()
    for volume in store.volumes.list():
        if volume.name in used or not which.takes_labels(dict(volume.labels or {})):
            continue
        size = store.volumes.size(volume.name)
        if not dry_run:
            try:
                store.volumes.remove(volume.name)
            except (Conflict, NotFound):
                continue  # used or removed since it was listed
        removed.append(volume.name)
        freed += size
    return Pruned(volumes=removed, freed=freed)


def prune(
    store: Store,
    which: Which = ANY,
    *,
    all_unused: bool = False,
    volumes: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Remove the containers that do not run, then images as `prune_images` does, and leftovers.

    The build cache is among what `prune_images` removes, unless there are labels to have.
    With `all_unused` the directories of RUN --mount=type=cache are, too.  With `volumes` the
    volumes go too that no container uses then.
    """
    containers = prune_containers(store, which, dry_run=dry_run)
    with ExitStack() as stack:
        if dry_run:
            # Report the images that only these containers use, too.
            stack.enter_context(store.database.rehearsal())
            store.containers.forget(containers.containers)
        images = prune_images(
            store,
            which,
            all_unused=all_unused,
            builds=not (which.labels or which.without),
            dry_run=dry_run,
        )
        pruned = prune_volumes(store, which, dry_run=dry_run) if volumes else Pruned()
    freed = images.freed + containers.freed + pruned.freed
    if all_unused and not (which.labels or which.without):
        freed += build_caches.prune(
            store.build_caches, store.staging, which.until_ns, dry_run=dry_run
        )
    freed += store.partial.sweep(dry_run=True) if dry_run else collect(store).freed
    return Pruned(images.images, containers.containers, pruned.volumes, freed)


def collect(store: Store) -> Pruned:
    """Remove the layers, blobs and staging that nothing needs; images and containers stay.

    The begun downloads of interrupted pulls are removed too.
    """
    removal = _run(store, lambda removal: _free_unreferenced(store, removal), dry_run=False)
    freed = store.partial.sweep()
    store.blobs.collect(list(store.blobs.all()))
    store.staging.sweep()
    return Pruned(images=removal.done, freed=removal.freed + freed)
