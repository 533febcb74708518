"""Garbage collection: remove images, containers, and what is no longer needed.

Decided here and only here: what is garbage, and that a dry run reports exactly what the
same run would do, since it is that run, rolled back.

Rows are deleted first, in one transaction.  After it the files that they named are removed
from disk, if they still have no row.  If a crash comes between the two, the next opening of
the store removes them, since a lease names them that is left after the process.

Threading: any thread.  Source: moby `daemon/images/image_prune.go`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from layerstore.errors import Conflict, NotFound
from layerstore.images.removal import ImageRemoval, Removed
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.images.rows import Image
    from layerstore.oci.digest import Digest
    from layerstore.store import Store


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
    *,
    all_unused: bool = False,
    until_ns: int | None = None,
    labels: dict[str, str | None] | None = None,
    without_labels: dict[str, str | None] | None = None,
    builds: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Remove dangling images, or with `all_unused` all that no container uses.

    With `builds` the steps of the build cache go too that no image or container needs, and
    with `all_unused` all of them.  Layers that nothing needs are removed too.  Images created
    after `until_ns` stay, and so do those that lack one of `labels` (None is any value) or
    have one of `without_labels`.
    """

    # Before the transaction, because configurations are files; they never change.
    labelled: set[Digest] | None = None
    if labels or without_labels:
        labelled = {
            image.id
            for image in store.images.all()
            if _is_labelled(store.images.config(image).labels, labels, without_labels)
        }

    def prune(removal: ImageRemoval) -> None:
        for image in _candidates(store, all_unused, until_ns):
            if labelled is not None and image.id not in labelled:
                continue
            names = [str(reference) for reference in image.references] or [image.id.encoded]
            for name in names:
                try:
                    removal.remove(name)
                except (Conflict, NotFound):
                    continue  # in use, or removed with an earlier one
        if builds:
            store.layers.forget_builds(until_ns=until_ns, everything=all_unused)
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


def _candidates(store: Store, all_unused: bool, until_ns: int | None) -> list[Image]:
    found = []
    for image in store.images.all():
        if until_ns is not None and image.created_ns > until_ns:
            continue
        if not image.references and store.images.children(image.id):
            continue  # it is removed with its last child
        if all_unused or not image.tags:
            found.append(image)
    return found


def _is_labelled(
    has: dict[str, str],
    labels: dict[str, str | None] | None,
    without: dict[str, str | None] | None,
) -> bool:
    return all(_has_label(has, *label) for label in (labels or {}).items()) and not any(
        _has_label(has, *label) for label in (without or {}).items()
    )


def _has_label(labels: dict[str, str], name: str, value: str | None) -> bool:
    return name in labels and (value is None or fnmatch.fnmatchcase(labels[name], value))


def _free_unreferenced(store: Store, removal: ImageRemoval) -> None:
    """Free the layers that nothing needs, which interrupted loads and commits left."""
    for top in store.layers.unneeded():
        removal.free_layers(top)


def prune_containers(store: Store, *, until_ns: int | None = None, dry_run: bool = False) -> Pruned:
    """Remove the containers that do not run; those created after `until_ns` stay."""
    removed: list[str] = []
    freed = 0
    for container in store.containers.list():
        if container.running or (until_ns is not None and container.created_ns > until_ns):
            continue
        size = store.containers.size(container)
        if not dry_run:
            try:
                store.containers.remove(container)
            except (Conflict, NotFound):
                continue  # started or removed since it was listed
        removed.append(container.id)
        freed += size
    return Pruned(containers=removed, freed=freed)


def prune_volumes(
    store: Store,
    *,
    labels: dict[str, str | None] | None = None,
    without_labels: dict[str, str | None] | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove the volumes that no container uses, and their content.

    Those that lack one of `labels` (None is any value) or have one of `without_labels` stay.
    """
    removed: list[str] = []
    freed = 0
    used = store.volumes.used()
    for volume in store.volumes.list():
        if volume.name in used or not _is_labelled(
            dict(volume.labels or {}), labels, without_labels
        ):
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
    *,
    all_unused: bool = False,
    until_ns: int | None = None,
    labels: dict[str, str | None] | None = None,
    without_labels: dict[str, str | None] | None = None,
    volumes: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Remove the containers that do not run, then images as `prune_images` does, and leftovers.

    The build cache is among what `prune_images` removes, unless there are labels to have.
    With `volumes` the volumes go too that no container uses then.
    """
    containers = prune_containers(store, until_ns=until_ns, dry_run=dry_run)
    with ExitStack() as stack:
        if dry_run:
            # Report the images that only these containers use, too.
            stack.enter_context(store.database.rehearsal())
            store.containers.forget(containers.containers)
        images = prune_images(
            store,
            all_unused=all_unused,
            until_ns=until_ns,
            labels=labels,
            without_labels=without_labels,
            builds=not (labels or without_labels),
            dry_run=dry_run,
        )
        pruned = Pruned()
        if volumes:
            pruned = prune_volumes(
                store, labels=labels, without_labels=without_labels, dry_run=dry_run
            )
    freed = images.freed + containers.freed + pruned.freed
    if not dry_run:
        freed += collect(store).freed
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
