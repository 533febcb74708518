"""`pyunion layers`: the layers as a tree, each under the one it lies on.

docker has no such command; podman's `image tree` shows one image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mount_tools.cli import words
from mount_tools.cli.complete import named
from mount_tools.cli.human import human_size, short_id
from mount_tools.cli.layer_use import LayerUse, Uses, names_of
from mount_tools.cli.listing import Listing, as_json
from mount_tools.cli.session import Session, pass_session, say
from mount_tools.cli.template_functions import Row, Value

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
    ("Layer", "Size", "SharedBy", "Images", "Containers"),
)


@words.command(
    "Show layers as a tree, with the images and containers on each",
    "[IMAGE]",
    most=1,
    completes=named("image"),
)
@words.text("--format", "template", says="Print each layer by a Go template, or as 'json'")
@words.flag("--json", "json", says="Print a JSON array, nothing cut")
@words.flag("--no-trunc", says="Don't truncate output")
@words.flag("-q", "--quiet", says="Only show layer ids")
@pass_session
def layers(
    session: Session,
    operands: tuple[str, ...],
    template: str | None,
    json: bool,
    no_trunc: bool,
    quiet: bool,
) -> None:
    """SHARED BY counts the images that need the layer. IMAGES and CONTAINERS are
    those whose topmost layer it is."""
    store = session.store
    uses = Uses(store)
    shown: set[str] | None = None
    if operands:
        top = store.images.resolve(operands[0]).top
        shown = {use.layer.chain_id for use in uses.chain(top)}
    found = list(_walked(uses.roots, shown))
    if json:
        say(as_json(as_object(use) for _, use in found), end="")
        return
    rows = [_row(prefix, use, whole=no_trunc) for prefix, use in found]
    say(LISTING.text(rows, template, quiet=quiet), end="")


def _walked(roots: Iterable[LayerUse], shown: set[str] | None) -> Iterator[tuple[str, LayerUse]]:
    """Yield each layer after the one it lies on, with the lines that lead to it.

    Chains are hundreds of layers deep, so this is no recursion; and an only child stays in
    its parent's column, or such a chain would run off the screen.
    """

    def wanted(uses: Iterable[LayerUse]) -> list[LayerUse]:
        return [use for use in uses if shown is None or use.layer.chain_id in shown]

    ahead = [("", "", use) for use in reversed(wanted(roots))]
    while ahead:
        prefix, below, use = ahead.pop()
        yield prefix, use
        children = wanted(use.children)
        for at, child in enumerate(reversed(children)):
            if len(children) == 1:
                ahead.append((below, below, child))
            else:
                last = at == 0
                branch, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
                ahead.append((below + branch, below + rest, child))


def _row(prefix: str, use: LayerUse, *, whole: bool) -> Row:
    layer = use.layer
    identity = str(layer.chain_id) if whole else layer.chain_id.short
    parent = layer.parent or ""
    return Row(
        ID=identity,
        Layer=prefix + identity,
        Parent=str(parent) if whole else short_id(parent),
        DiffID=str(layer.diff_id) if whole else layer.diff_id.short,
        Size=human_size(layer.size, 3),
        SharedBy=str(use.by_images),
        Images=", ".join(names_of(use)),
        Containers=", ".join(container.name for container in use.containers),
        Path=str(layer.path),
    )


def as_object(use: LayerUse) -> dict[str, Value]:
    """Return a layer as `--json` has it."""
    return {
        "chain_id": use.layer.chain_id,
        "parent": use.layer.parent,
        "diff_id": use.layer.diff_id,
        "size": use.layer.size,
        "path": str(use.layer.path),
        "shared_by": use.by_images,
        "images": list(names_of(use)),
        "containers": [container.name for container in use.containers],
    }
