"""Completers for the shell: names of images, containers and volumes, and file names.

A completer gets the part of a word that is typed, and returns the words that it may become.
None leaves the word to the shell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layerstore.errors import StoreError
from layerstore.oci.reference import familiar
from layerstore.store import Store
from mount_tools.cli.framework import Completer


def named(*kinds: str, first: int = 0, last: int | None = None) -> Completer:
    """Return a completer of the names of `kinds`: "image", "container", "volume".

    Operands before `first` and after `last`, counted from 0, are file names.
    """

    def complete(begun: str, operands: Sequence[str], root: str | None) -> list[str] | None:
        at = len(operands)
        if at < first or (last is not None and at > last):
            return None
        try:
            with Store.open(root, create=False) as store:
                return sorted(name for name in _known(store, kinds) if name.startswith(begun))
        except (StoreError, OSError):
            return []  # a message would appear in the middle of the line

    return complete


def _known(store: Store, kinds: tuple[str, ...]) -> Iterator[str]:
    if "image" in kinds:
        for image in store.images.all():
            yield from (familiar(reference) for reference in image.tags)
            if not image.tags:
                yield image.id.short
    if "container" in kinds:
        for container in store.containers.list():
            yield container.name
    if "volume" in kinds:
        for volume in store.volumes.list():
            yield volume.name
