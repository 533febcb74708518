"""Completion of names in the shell: images and containers of the store.

Threading: one.  Source: click "Shell Completion".
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from layerstore.errors import StoreError
from layerstore.oci.reference import familiar
from layerstore.store import Store
from mount_tools.cli.framework import Completer


def named(*kinds: str) -> Completer:
    """Return what completes the names of `kinds`: "image", "container"."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        root = context.find_root().params.get("root")
        try:
            with Store.open(root, create=False) as store:
                return sorted(name for name in _known(store, kinds) if name.startswith(begun))
        except (StoreError, OSError):
            return []  # Tab is no place for an error

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
