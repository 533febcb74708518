"""Disk usage: the size of a store's content, and how much of it images share.

Decided here and only here: what counts as shared.  A layer is shared if more than one
image has it in its chain.  Reclaimable is the size that the removal of every unused image,
or container, would free.  All sizes are in bytes.  Used by `system df` and `layers`.

Source: moby `daemon/disk_usage.go`, `daemon/images/images.go` (shared size).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from layerstore import build_caches
from layerstore.diff.tree_walk import tree_size
from layerstore.oci.digest import Digest
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore.containers.container import Container
    from layerstore.images.rows import Image
    from layerstore.layers import Layer
    from layerstore.store import Store


@dataclass(frozen=True)
class ImageUsage:
    """One image: `size` is `shared` and `unique` together; `containers` counts its users."""

    image: Image
    shared: int
    unique: int
    containers: int

    @property
    def size(self) -> int:
        return self.shared + self.unique


@dataclass(frozen=True)
class ContainerUsage:
    """One container: `size` is what it has written."""

    container: Container
    size: int


@dataclass(frozen=True)
class VolumeUsage:
    """One volume: `links` counts the containers that use it."""

    name: str
    links: int
    size: int


@dataclass(frozen=True)
class Usage:
    """What the store holds.  `layers_size` counts each layer once.

    Layers that only the build cache needs are in `builds_size` and not in `layers_size`, and so
    are the directories of RUN --mount=type=cache;
    `builds` counts its steps, `builds_active` those whose layers are needed otherwise.
    """

    images: list[ImageUsage]
    containers: list[ContainerUsage]
    layers_size: int
    images_reclaimable: int
    blobs_size: int
    builds: int = 0
    builds_active: int = 0
    builds_size: int = 0
    volumes: list[VolumeUsage] = field(default_factory=list)

    @property
    def volumes_active(self) -> int:
        return sum(1 for volume in self.volumes if volume.links)

    @property
    def volumes_size(self) -> int:
        return sum(volume.size for volume in self.volumes)

    @property
    def volumes_reclaimable(self) -> int:
        return sum(volume.size for volume in self.volumes if not volume.links)

    @property
    def images_active(self) -> int:
        return sum(1 for image in self.images if image.containers)

    @property
    def containers_active(self) -> int:
        return sum(1 for entry in self.containers if entry.container.running)

    @property
    def containers_size(self) -> int:
        return sum(entry.size for entry in self.containers)

    @property
    def containers_reclaimable(self) -> int:
        return sum(entry.size for entry in self.containers if not entry.container.running)


@dataclass(frozen=True)
class LayerNode:
    """A layer in the tree of layers, with those above it and the images that end with it."""

    layer: Layer
    images: list[Image] = field(default_factory=list)
    above: list[LayerNode] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)

    @property
    def users(self) -> int:
        """How many images have this layer in their chain."""
        return _users(self)


def usage(store: Store) -> Usage:
    """Return the sizes of everything in the store."""
    layers = {layer.chain_id: layer for layer in store.layers.all()}
    images = store.images.all()
    containers = store.containers.list()
    chains = {image.id: _chain(layers, image.top) for image in images}
    users: dict[Digest, int] = {}
    for image in images:
        for chain in chains[image.id]:
            users[chain] = users.get(chain, 0) + 1
    used_images = {container.image for container in containers}
    needed = {chain for image in used_images for chain in chains.get(image, ())}
    for container in containers:
        needed.update(_chain(layers, container.base))
    steps = store.layers.uses.builds()
    cached = {chain for top in steps for chain in _chain(layers, top)}
    cached -= needed | users.keys()
    return Usage(
        images=[
            ImageUsage(
                image,
                shared=sum(layers[c].size for c in chains[image.id] if users[c] > 1),
                unique=sum(layers[c].size for c in chains[image.id] if users[c] == 1),
                containers=sum(1 for container in containers if container.image == image.id),
            )
            for image in images
        ],
        containers=[ContainerUsage(container, container.size()) for container in containers],
        layers_size=sum(layer.size for layer in layers.values() if layer.chain_id not in cached),
        images_reclaimable=sum(
            layer.size for layer in layers.values() if layer.chain_id not in needed | cached
        ),
        builds=len(steps),
        builds_active=sum(1 for top in steps if top is not None and top not in cached),
        builds_size=sum(layers[chain].size for chain in cached)
        + sum(tree_size(path) for path in build_caches.all_of(store.build_caches)),
        blobs_size=sum(store.blobs.size(digest) for digest in store.blobs.all()),
        volumes=[
            VolumeUsage(
                volume.name,
                links=len(store.volumes.users(volume.name)),
                size=store.volumes.size(volume.name),
            )
            for volume in store.volumes.list()
        ],
    )


def layer_forest(store: Store) -> list[LayerNode]:
    """Return the layers without a parent, each with the tree of those above it."""
    nodes = {layer.chain_id: LayerNode(layer) for layer in store.layers.all()}
    for image in store.images.all():
        if image.top in nodes:
            nodes[image.top].images.append(image)
    for container in store.containers.list():
        if container.base in nodes:
            nodes[container.base].containers.append(container)
    roots: list[LayerNode] = []
    for node in sorted(nodes.values(), key=lambda node: node.layer.chain_id):
        parent = node.layer.parent
        (nodes[parent].above if parent in nodes else roots).append(node)
    return roots


def _users(top: LayerNode) -> int:
    total = 0
    pending = [top]
    while pending:
        node = pending.pop()
        total += len(node.images)
        pending += node.above
    return total


def _chain(layers: dict[Digest, Layer], top: Digest | None) -> list[Digest]:
    chain = []
    while top is not None and top in layers:
        chain.append(top)
        top = layers[top].parent
    return chain
