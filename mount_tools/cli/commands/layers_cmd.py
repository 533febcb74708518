"""`pyunion layers`: the layers as a tree, each in a row below its parent.

docker has no such command; podman's `image tree` shows one image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from layerstore.images.images import Image
from layerstore.oci.reference import familiar
from layerstore.operations.disk_usage import LayerNode, layer_forest
from mount_tools.cli import framework
from mount_tools.cli.complete import named
from mount_tools.cli.gotemplate.values import Row, Value
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.human import human_size, short_id
from mount_tools.cli.output.listing import Listing, as_json

LISTING = Listing(
    {
        "ID": "LAYER",
        "Layer": "LAYER",
        "Parent": "PARENT",
        "DiffID": "DIFF ID",
        "Size": "SIZE",
        "SharedBy": "SHARED BY",
        "Images": "IMAGES",
        "Containers": "CONTAINERS",
        "Path": "PATH",
    },
    ("Layer", "Parent", "Size", "SharedBy", "Images", "Containers"),
)


@framework.command(
    "Show layers as a tree, with the images and containers on each",
    "[IMAGE]",
    most=1,
    completes=named("image"),
)
@framework.listing("layer")
def layers(
    invocation: Invocation, operands: tuple[str, ...], flags: framework.ListingFlags
) -> None:
    """PARENT is the layer beneath a layer; a layer without a parent is a base. Lines are drawn
    only if a layer is the parent of several. SHARED BY counts the images that need the layer.
    IMAGES and CONTAINERS are those whose topmost layer it is. With --json each layer has
    chain_id, parent, diff_id, size (bytes), path, shared_by, images and containers."""
    store = invocation.store
    shown: set[str] | None = None
    if operands:
        top = store.images.resolve(operands[0]).top
        shown = {layer.chain_id for layer in store.layers.chain(top)}
    found = list(_walked(layer_forest(store), shown))
    if flags.json:
        say(as_json(as_object(node) for _, node in found), end="")
        return
    rows = [_row(prefix, node, whole=flags.no_trunc) for prefix, node in found]
    say(LISTING.text(rows, flags.template, quiet=flags.quiet), end="")


def _walked(roots: Iterable[LayerNode], shown: set[str] | None) -> Iterator[tuple[str, LayerNode]]:
    """Yield each layer after its parent, with the lines that lead to it.

    Not recursive, since chains have hundreds of layers.  An only child stays in the column
    of its parent; else a long chain would run off the screen.
    """

    def wanted(nodes: Iterable[LayerNode]) -> list[LayerNode]:
        return [node for node in nodes if shown is None or node.layer.chain_id in shown]

    ahead = [("", "", node) for node in reversed(wanted(roots))]
    while ahead:
        prefix, below, node = ahead.pop()
        yield prefix, node
        children = wanted(node.above)
        for at, child in enumerate(reversed(children)):
            if len(children) == 1:
                ahead.append((below, below, child))
            else:
                last = at == 0
                branch, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
                ahead.append((below + branch, below + rest, child))


def _row(prefix: str, node: LayerNode, *, whole: bool) -> Row:
    layer = node.layer
    identity = str(layer.chain_id) if whole else layer.chain_id.short
    parent = layer.parent or ""
    return Row(
        ID=identity,
        Layer=prefix + identity,
        Parent=str(parent) if whole else short_id(parent),
        DiffID=str(layer.diff_id) if whole else layer.diff_id.short,
        Size=human_size(layer.size, 3),
        SharedBy=str(node.users),
        Images=", ".join(names_of(node.images)),
        Containers=", ".join(container.name for container in node.containers),
        Path=str(layer.path),
    )


def as_object(node: LayerNode) -> dict[str, Value]:
    """Return a layer as `--json` prints it."""
    return {
        "chain_id": node.layer.chain_id,
        "parent": node.layer.parent,
        "diff_id": node.layer.diff_id,
        "size": node.layer.size,
        "path": str(node.layer.path),
        "shared_by": node.users,
        "images": list(names_of(node.images)),
        "containers": [container.name for container in node.containers],
    }


def names_of(images: Iterable[Image]) -> list[str]:
    """Return the tags of `images`, the id for an image without tags."""
    names: list[str] = []
    for image in images:
        names += [familiar(reference) for reference in image.tags] or [image.id.short]
    return names
