"""`pyunion prune`: ask, and remove unused objects; or show which would be removed.

Source: docker/cli `cli/command/image/prune.go`, `container/prune.go`, `system/prune.go`.
Differs from docker: `--dry-run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from layerstore.oci.timestamps import parse_until
from layerstore.operations import gc
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands import filters
from mount_tools.cli.confirm import confirmed
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.human import human_size
from mount_tools.container.cgroup import release_ended
from mount_tools.container.user_namespace import read_all
from unionfs.light_typing import TypeVar

DANGLING = "all dangling images"
UNUSED = "all images without at least one container associated to them"
CACHES = "  - all caches that builds have filled by RUN --mount=type=cache\n"
UNUSED_VOLUMES = "  - all volumes not used by at least one container\n"

Decorated = TypeVar("Decorated", bound=Callable[..., object])
Wanted = tuple[tuple[str, str], ...]


def _flags(function: Decorated) -> Decorated:
    """Add the flags that all kinds of pruning have."""
    for add in (
        framework.flag("--dry-run", says="Show what would be removed, without removing it"),
        framework.filters("--filter", says="Only what matches: until=TIME, label=NAME[=VALUE]"),
        framework.flag("-f", "--force", says="Do not prompt for confirmation"),
    ):
        function = add(function)
    return function


@framework.command("Remove stopped containers, unused images and layers")
@framework.flag(
    "-a", "--all", says="Remove all unused images, not just dangling ones, and caches of builds"
)
@framework.flag("--volumes", says="Remove volumes that no container uses, too")
@_flags
def prune(
    invocation: Invocation, all: bool, volumes: bool, force: bool, wanted: Wanted, dry_run: bool
) -> None:
    which = which_of(filters.gathered(wanted, ("until", "label", "label!")))
    warning = (
        "This will remove:\n"
        "  - all stopped containers\n"
        f"{UNUSED_VOLUMES if volumes else ''}"
        f"  - {UNUSED if all else DANGLING}\n"
        "  - all layers and blobs that are not needed\n"
        f"{CACHES if all else ''}"
    )
    if not (force or dry_run or confirmed(warning)):
        return
    read_all()  # the files may belong to sub-ids
    _release_groups(invocation.store)
    pruned = gc.prune(invocation.store, which, all_unused=all, volumes=volumes, dry_run=dry_run)
    report(pruned, dry_run)


@framework.command("Remove unused images")
@framework.flag("-a", "--all", says="Remove all unused images, not just dangling ones")
@_flags
def prune_images(
    invocation: Invocation, all: bool, force: bool, wanted: Wanted, dry_run: bool
) -> None:
    asked = filters.gathered(wanted, ("until", "label", "label!", "dangling"))
    which = which_of(asked)
    everything = all or ("dangling" in asked and not filters.boolean("dangling", asked["dangling"]))
    warning = f"This will remove {UNUSED if all else DANGLING}."
    if force or dry_run or confirmed(warning):
        read_all()
        pruned = gc.prune_images(invocation.store, which, all_unused=everything, dry_run=dry_run)
        report(pruned, dry_run)


@framework.command("Remove all stopped containers")
@_flags
def prune_containers(invocation: Invocation, force: bool, wanted: Wanted, dry_run: bool) -> None:
    which = which_of(filters.gathered(wanted, ("until",)))
    if force or dry_run or confirmed("This will remove all stopped containers."):
        read_all()
        _release_groups(invocation.store)
        report(gc.prune_containers(invocation.store, which, dry_run=dry_run), dry_run)


def _release_groups(store: Store) -> None:
    """Remove the control groups that killed keepers left; a removed container has none."""
    for container in store.containers.list():
        release_ended(store, container)


def which_of(asked: Mapping[str, list[str]]) -> gc.Which:
    """Return what the filters `asked` for limit a prune to."""
    now_ns = time.time_ns()
    untils = [parse_until(value, now_ns) for value in asked.get("until", ())]
    labels, without = (filters.label_pairs(asked.get(name, ())) for name in ("label", "label!"))
    return gc.Which(min(untils, default=None), labels, without)


def report(pruned: gc.Pruned, dry_run: bool) -> None:
    """Print what was removed, or with `dry_run` would be."""
    done = "Would delete" if dry_run else "Deleted"
    if pruned.containers:
        say("\n".join([f"{done} Containers:", *pruned.containers, ""]))
    if pruned.volumes:
        say("\n".join([f"{done} Volumes:", *pruned.volumes, ""]))
    if pruned.images:
        lines = (f"{what.lower()}: {text}" for what, text in pruned.images)
        say("\n".join([f"{done} Images:", *lines, ""]))
    say(f"Total {'reclaimable' if dry_run else 'reclaimed'} space: {human_size(pruned.freed)}")
