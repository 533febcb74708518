"""Which images and containers stand on which layers, and what each would free alone.

Counted over the whole store at once, from its rows; the sizes are those of the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from layerstore.containers import Container
from layerstore.digest import Digest
from layerstore.images import Image
from layerstore.layers import Layer
from layerstore.reference import familiar
from layerstore.store import Store


@dataclass
class LayerUse:
    """A layer with what begins on it, and how many images and containers need it."""

    layer: Layer
    images: list[Image] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    children: list[LayerUse] = field(default_factory=list)
    by_images: int = 0
    by_containers: int = 0


class Uses:
    """The layers of a store as a forest."""

    def __init__(self, store: Store) -> None:
        self.images = store.images.all()
        self.containers = store.containers.list()
        self.by_chain = {layer.chain_id: LayerUse(layer) for layer in store.layers.all()}
        self.roots: list[LayerUse] = []
        for use in sorted(self.by_chain.values(), key=lambda use: use.layer.chain_id):
            above = self.by_chain.get(use.layer.parent) if use.layer.parent else None
            (self.roots if above is None else above.children).append(use)
        for image in self.images:
            for at, use in enumerate(self.chain(image.top)):
                use.by_images += 1
                if at == 0:
                    use.images.append(image)
        for container in self.containers:
            for at, use in enumerate(self.chain(container.base)):
                use.by_containers += 1
                if at == 0:
                    use.containers.append(container)

    def chain(self, top: Digest | None) -> Iterator[LayerUse]:
        """Yield the layers of the chain `top`, the topmost first."""
        while top is not None and (use := self.by_chain.get(top)) is not None:
            yield use
            top = use.layer.parent

    def total(self) -> int:
        """Return the bytes of all layers, each counted once."""
        return sum(use.layer.size for use in self.by_chain.values())

    def in_use(self) -> int:
        """Return the bytes of the layers that some container needs."""
        return sum(use.layer.size for use in self.by_chain.values() if use.by_containers)

    def shared_and_unique(self, image: Image) -> tuple[int, int]:
        """Return the bytes the image shares with other images, and those it alone has."""
        shared = unique = 0
        for use in self.chain(image.top):
            if use.by_images > 1:
                shared += use.layer.size
            else:
                unique += use.layer.size
        return shared, unique


def names_of(use: LayerUse) -> list[str]:
    """Return the images whose topmost layer it is, by all their names or else by their ids."""
    names: list[str] = []
    for image in use.images:
        names += [familiar(reference) for reference in image.references] or [image.id.short]
    return names
