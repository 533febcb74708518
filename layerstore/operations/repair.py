"""Checking a store, and repairing it as far as that can be done.

Decided here and only here: what is done about each finding.  What the store
can make anew it makes anew; what it cannot, and what belongs to nothing, is
moved to `<root>/quarantine/` under the name it had, for a person to judge.
Nothing is deleted but what was being built when its process died.

A layer that is damaged is unpacked again from the archive it came from, where
that was kept, and is quarantined otherwise: an image that lost it says so, and
is whole again once it is loaded again.  One that is in use stays.

Threading: any thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from layerstore.containers.containers import make_upper
from layerstore.errors import StoreError
from layerstore.layer.unpack import unpack
from layerstore.oci.digest import Digest
from layerstore.operations.check import Finding, examine, unneeded_blob
from layerstore.progress import Report
from layerstore.tar.compression import open_decompressed
from unionfs.syscalls.privilege import is_machine_root

if TYPE_CHECKING:
    from layerstore.layers import Layer
    from layerstore.store import Store

QUARANTINE = "quarantine"


def check(
    store: Store,
    *,
    repair: bool = False,
    content: bool = True,
    report: Report | None = None,
) -> list[Finding]:
    """Return what of the store is not as it should be; see `Finding`.

    `repair` does about each what can be done, and its finding says what that
    was.  Without `content` no file is read whole.
    """
    findings = list(examine(store, content=content, report=report))
    if not repair or not findings:
        return findings
    with store.leases.lease("work", "repair"):
        mender = _Repair(store)
        # A layer has a finding for each of its files, and is repaired once.
        done: dict[tuple[str, str], str] = {}
        for finding in findings:
            what = (finding.kind, finding.key)
            if what not in done:
                done[what] = mender.repair(finding)
    return [finding._replace(repaired=done[finding.kind, finding.key]) for finding in findings]


class _Repair:
    """One repair, with the quarantine it fills."""

    def __init__(self, store: Store) -> None:
        self._store = store
        now = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
        self._quarantine = store.root / QUARANTINE / now

    def repair(self, finding: Finding) -> str:
        """Do what can be done about a finding; return what that was, in words."""
        by_kind: dict[str, Callable[[Finding], str]] = {
            "blob": self._blob,
            "layer": self._layer,
            "container": self._container,
            "directory": self._directory,
            "staging": self._staging,
        }
        act = by_kind.get(finding.kind)
        if act is None:
            return ""
        try:
            return act(finding)
        except (StoreError, OSError) as error:
            return f"not repaired: {error}"

    def _blob(self, finding: Finding) -> str:
        digest = Digest(finding.key)
        path = self._store.blobs.path(digest)
        if finding.harmless and not unneeded_blob(self._store, digest):
            return ""  # somebody came to need it
        with self._store.database.transaction() as tx:
            # A layer gives its archive without the blob, and a manifest is written anew.
            tx.execute("DELETE FROM layer_blobs WHERE digest = ?", (digest,))
            tx.execute("DELETE FROM manifests WHERE digest = ?", (digest,))
        return self._set_aside(path)

    def _layer(self, finding: Finding) -> str:
        store = self._store
        chain = Digest(finding.key)
        layer = store.layers.known(chain)
        if layer is None:
            return ""
        if chain in self._in_use():
            return "not repaired: it is in use; stop the containers that stand on it first"
        if chain in store.layers.unneeded():
            with store.database.transaction() as tx:
                tx.execute("DELETE FROM layers WHERE chain_id = ?", (chain,))
            return self._set_aside(layer.path) or "forgotten"
        if finding.harmless:
            return "moved to its place" if store.layers.settle() else ""
        return self._unpack_again(layer) or self._set_aside(layer.path)

    def _unpack_again(self, layer: Layer) -> str:
        """Make the layer anew from a blob it came from; return "" where there is none."""
        store = self._store
        below = store.layers.chain(layer.parent)
        for descriptor in store.layers.blobs(layer.diff_id):
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
                return f"unpacked anew; what it was is {aside}"
        return ""

    def _in_use(self) -> set[Digest]:
        """Return the layers that a running container or other work stands on."""
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

    def _container(self, finding: Finding) -> str:
        store = self._store
        container = store.containers.resolve(finding.key)
        directory = store.containers.directory(container)
        if not directory.is_dir():
            return ""  # all it had is gone; `rm` takes the rest
        made = []
        lowers = store.containers.lowers(container)
        if not (directory / "upper").is_dir():
            make_upper(directory / "upper", lowers[0] if lowers else None)
            made.append("upper")
        if not (directory / "work").is_dir():
            (directory / "work").mkdir(mode=0o700)
            made.append("work")
        return f"made an empty {' and '.join(made)}" if made else ""

    def _directory(self, finding: Finding) -> str:
        strays = {
            *(f"layers/{name}" for name in self._store.layers.strays()),
            *(f"containers/{name}" for name in self._store.containers.strays()),
        }
        return self._set_aside(self._store.root / finding.key) if finding.key in strays else ""

    def _staging(self, finding: Finding) -> str:
        self._store.staging.sweep()
        return "" if (self._store.root / finding.key).exists() else "removed"

    def _set_aside(self, path: Path) -> str:
        """Move `path` to the quarantine; return where it is, in words."""
        place = self._quarantine / path.relative_to(self._store.root)
        if not os.path.lexists(path):
            return ""
        for made in (self._quarantine.parent, self._quarantine, place.parent):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._store.database.transaction():
            os.rename(path, place)
            self._store.durability.directory(path.parent)
        return f"moved to {place}"
