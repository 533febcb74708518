"""The mounts that a new container takes from others: `--volumes-from NAME[:ro|rw]`.

Decided here and only here: which they are: the volumes of the other container and its binds,
but for those whose mount points the new container has mounts of its own for.

Source: moby `daemon/volumes.go` registerMountPoints, `volume/mounts/linux_parser.go`
ParseVolumesFrom.
"""

from __future__ import annotations

from collections.abc import Iterable

from layerstore.errors import StoreError
from layerstore.oci.run_config import RunConfig
from layerstore.store import Store
from layerstore.volumes import VolumeUse
from mount_tools.container.host_config import host_config
from mount_tools.container.mount_words import Volume

_MODES = ("", "ro", "rw")


def volumes_from(
    store: Store, words: Iterable[str], taken: Iterable[str]
) -> tuple[list[Volume], list[VolumeUse]]:
    """Return the binds and the volumes that the containers named by `words` have.

    Those at the mount points `taken`, and at one that an earlier container gave, are left out.
    Raises StoreError, NoSuchContainer.
    """
    have = set(taken)
    binds: list[Volume] = []
    uses: list[VolumeUse] = []
    for text in words:
        name, _, mode = text.partition(":")
        if not name:
            raise StoreError(f"invalid volumes-from specification: {text}")
        if mode not in _MODES:
            raise StoreError(f"invalid mode: {mode}")
        other = store.containers.resolve(name)
        for bind in host_config(RunConfig(other.config)).volumes:
            if bind.target not in have:
                have.add(bind.target)
                binds.append(bind._replace(read_only=bind.read_only or mode == "ro"))
        for use in store.volumes.uses_of(other.id):
            if use.target not in have:
                have.add(use.target)
                uses.append(use._replace(read_only=use.read_only or mode == "ro", filled=True))
    return binds, uses
