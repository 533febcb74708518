"""Repair a store as far as that is possible.

Decided here and only here: what is done about each finding of
`layerstore.operations.check`.  The store makes again what it can.  Everything else, and
what belongs to nothing, is moved to `<root>/quarantine/` under the same name, for a person
to decide.  Only what a process was building when it was killed is deleted.

If a layer has lost no content, its index puts the rest right: attributes, empty directories, what
was added.
A layer with other damage is unpacked again from the archive that it came from, if that was kept;
otherwise it is moved to quarantine, unless it has lost all its files.  The images that need it
cannot be used until one of them is loaded again.  A layer in use is not moved.

Threading: any thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from layerstore.containers.containers import make_upper
from layerstore.errors import InvalidImage, StoreError
from layerstore.layer.index import compare, read_index
from layerstore.layer.mend import make_private, put_right
from layerstore.layer.tar_split import archive_size
from layerstore.layer.unpack import unpack
from layerstore.oci.digest import Digest
from layerstore.operations.check import NAMES_ONLY, Finding, Repair, check, check_users, strangers
from layerstore.progress import Report, silent
from layerstore.tar.compression import open_decompressed
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls.privilege import is_machine_root

if TYPE_CHECKING:
    from layerstore.layers import Layer
    from layerstore.store import Store

QUARANTINE = "quarantine"


def repair(store: Store, *, content: bool = True, report: Report = silent) -> list[Finding]:
    """Check the store, and repair each finding as far as possible.

    Returns the findings with what was done; see `layerstore.operations.check.check`.  They
    include the images and containers that cannot be used until what was moved aside is back.
    """
    findings = check(store, content=content, report=report)
    if not findings:
        return []
    with store.leases.lease("work", "repair"):
        repairs = _Repairs(store)
        # A layer has a finding for each of its files, and is repaired once.
        done: dict[tuple[str, ...], Repair | None] = {}
        for finding in findings:
            what = _what(finding)
            if what not in done:
                done[what] = repairs.repair(finding)
    repaired = [finding._replace(repair=done[_what(finding)]) for finding in findings]
    if all(repair is None or repair.restored for repair in done.values()):
        return repaired
    return repaired + [finding for finding in check_users(store) if finding not in findings]


def _what(finding: Finding) -> tuple[str, ...]:
    return finding.kind, finding.key, finding.table


class _Repairs:
    """The repairs of one check, with the quarantine that they fill."""

    def __init__(self, store: Store) -> None:
        self._store = store
        now = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
        self._quarantine = store.root / QUARANTINE / now

    def repair(self, finding: Finding) -> Repair | None:
        """Repair a finding if that is possible; return what was done."""
        by_kind: dict[str, Callable[[Finding], Repair | None]] = {
            "database": self._database,
            "blob": self._blob,
            "layer": self._layer,
            "container": self._container,
            "volume": self._volume,
            "directory": self._directory,
            "staging": self._staging,
        }
        act = by_kind.get(finding.kind)
        if act is None:
            return None
        try:
            return act(finding)
        except (StoreError, OSError) as error:
            return Repair(False, str(error))

    def _database(self, finding: Finding) -> Repair | None:
        if finding.table not in NAMES_ONLY:
            return None
        deleted = self._store.database.delete_dangling(finding.table)
        return Repair(True, "forgotten") if deleted else None

    def _blob(self, finding: Finding) -> Repair | None:
        digest = Digest(finding.key)
        path = self._store.blobs.path(digest)
        if finding.harmless and not self._store.blobs.unneeded(digest):
            return None  # something needs it now
        # Without the blob a layer's archive is made from its tree, and a new manifest is written.
        self._store.blobs.forget(digest)
        return self._set_aside(path)

    def _layer(self, finding: Finding) -> Repair | None:
        store = self._store
        chain = Digest(finding.key)
        layer = store.layers.known(chain)
        if layer is None:
            return None
        if chain in self._in_use():
            return Repair(False, "it is in use; stop the containers that are based on it first")
        if chain in store.layers.unneeded():
            store.layers.forget(chain)
            return self._set_aside(layer.path) or Repair(True, "forgotten")
        if finding.harmless:
            return Repair(True, "moved to its place") if store.layers.settle() else None
        if self._put_right(layer):
            return Repair(True, "put right")
        again = self._unpack_again(layer)
        if again is None and layer.diff.is_dir():
            moved = self._set_aside(layer.path)
            return moved and moved._replace(restored=False)
        return again

    def _put_right(self, layer: Layer) -> bool:
        """Undo what can be undone by the layer's index; tell whether the layer is whole then."""
        if layer.is_elsewhere:
            return False  # it is the container engine's
        try:
            archive_size(layer.path)
            index = {entry.path: entry for entry in read_index(layer.index)}
        except (InvalidImage, OSError):
            return False
        aside = self._quarantine / layer.path.relative_to(self._store.root) / "diff"
        if not layer.diff.is_dir() or not put_right(layer.diff, index, aside):
            return False
        self._store.durability.tree(layer.path)
        return not list(compare(layer.diff, index))

    def _unpack_again(self, layer: Layer) -> Repair | None:
        """Unpack the layer again from a blob it came from; return None if there is none."""
        store = self._store
        below = store.layers.chain(layer.parent)
        for descriptor in store.layers.archives.of(layer.diff_id):
            with store.layers.stage() as staging:
                with store.blobs.open(descriptor.digest) as blob:
                    unpacked = unpack(
                        open_decompressed(blob),
                        staging.path,
                        privileged=is_machine_root(),
                        lowers=[lower.diff for lower in below],
                    )
                if unpacked.diff_id != layer.diff_id:
                    continue
                aside = self._set_aside(layer.path)
                store.layers.publish(staging, layer.parent, layer.diff_id, layer.size)
                was = f"; what was there is {aside}" if aside is not None else ""
                return Repair(True, f"unpacked again{was}")
        return None

    def _in_use(self) -> set[Digest]:
        """Return the layers beneath running containers and beneath the work of other processes."""
        store = self._store
        tops = [container.base for container in store.containers.list() if container.running]
        mine = os.getpid()
        tops += [
            Digest(lease.key)
            for lease in store.leases.all()
            if lease.kind == "layer" and lease.holder.pid != mine and lease.holder.alive()
        ]
        parents = {layer.chain_id: layer.parent for layer in store.layers.all()}
        used: set[Digest] = set()
        for top in tops:
            while top is not None and top in parents and top not in used:
                used.add(top)
                top = parents[top]
        return used

    def _container(self, finding: Finding) -> Repair | None:
        store = self._store
        container = store.containers.resolve(finding.key)
        directory = container.directory
        if not directory.is_dir():
            return None  # all its files are lost; `rm` removes the row
        made = []
        lowers = store.containers.lowers(container)
        for name in ("upper", "work"):
            if not (directory / name).is_dir():
                self._set_aside(directory / name)
        if not (directory / "upper").is_dir():
            make_upper(directory / "upper", lowers[0] if lowers else None)
            made.append("upper")
        if not (directory / "work").is_dir():
            (directory / "work").mkdir(mode=0o700)
            made.append("work")
        return Repair(True, f"made an empty {' and '.join(made)}") if made else None

    def _volume(self, finding: Finding) -> Repair | None:
        volumes, name = self._store.volumes, finding.key
        if not finding.harmless:
            for path in (volumes.directory(name), volumes.data(name)):
                if not path.is_dir():
                    self._set_aside(path)
            made = volumes.restore(name)
            return Repair(True, "made an empty one") if made else None
        with volumes.lock(name) as fd:
            return Repair(True, "moved the rest in") if volumes.settle(fd) else None

    def _directory(self, finding: Finding) -> Repair | None:
        strays = {
            *(f"layers/{name}" for name in self._store.layers.strays()),
            *(f"containers/{name}" for name in self._store.containers.strays()),
            *(f"volumes/{name}" for name in self._store.volumes.strays()),
            *(os.fspath(path.relative_to(self._store.root)) for path in strangers(self._store)),
        }
        return self._set_aside(self._store.root / finding.key) if finding.key in strays else None

    def _staging(self, finding: Finding) -> Repair | None:
        self._store.staging.sweep()
        there = os.path.lexists(self._store.root / finding.key)
        return None if there else Repair(True, "removed")

    def _set_aside(self, path: Path) -> Repair | None:
        """Move `path` to the quarantine; return that, or None if there is nothing to move."""
        place = self._quarantine / path.relative_to(self._store.root)
        if not os.path.lexists(path):
            return None
        make_private(place.parent)
        with self._store.database.transaction():
            os.rename(path, place)
            self._store.durability.directory(path.parent)
        return Repair(True, f"moved to {place}")
