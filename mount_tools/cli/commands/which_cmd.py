"""`pyunion which`: the layer that provides a path, and the layers below that have it too.

The path is looked up in a union of the layers, so whiteouts, redirects and links count as
in a mount.  docker has no such command.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import closing

from layerstore.containers.container import Container
from layerstore.errors import NotFound
from layerstore.images.images import Image
from layerstore.layers import Layer
from layerstore.oci.digest import Digest
from layerstore.oci.timestamps import format_timestamp
from layerstore.store import Store
from mount_tools.cli import framework
from mount_tools.cli.commands.inspect_cmd import resolved
from mount_tools.cli.commands.layers_cmd import names_of
from mount_tools.cli.complete import named
from mount_tools.cli.gotemplate.values import Row, Value
from mount_tools.cli.invocation import Invocation, say
from mount_tools.cli.output.human import ellipsis, human_size
from mount_tools.cli.output.listing import Listing, as_json
from mount_tools.container.union_path import walk
from unionfs import UnionConfig, open_union, places
from unionfs.light_typing import NamedTuple
from unionfs.types import Attr, NodeId
from unionfs.vfs import Filesystem

CREATED_BY_WIDTH = 45
PLACES = b"trusted.pyunion.layers"

LISTING = Listing(
    {
        "ID": "LAYER",
        "Type": "TYPE",
        "Size": "SIZE",
        "Images": "IMAGES",
        "CreatedBy": "CREATED BY",
        "Path": "PATH",
    },
    ("ID", "Type", "Size", "Images", "CreatedBy"),
)


Images = dict[Digest, list[Image]]  # by the chain_id of their topmost layer


class Tree(NamedTuple):
    """One tree of a stack; `layer` is None for the upper of a container."""

    path: bytes
    layer: Layer | None


class Provider(NamedTuple):
    """A tree that has the path, and the absolute path of the file in it."""

    tree: Tree
    path: bytes


@framework.command(
    "Show the layer that provides a path, and the layers below that have it too",
    "PATH IMAGE|CONTAINER",
    least=2,
    most=2,
    completes=named("image", "container", first=1),
)
@framework.listing("place")
def which(invocation: Invocation, operands: tuple[str, ...], flags: framework.ListingFlags) -> None:
    """The first line is the layer whose file is visible. CREATED BY is the step that made the
    layer; (upper) has the changes of a container that are not committed. With --json each place has
    layer, path, type, mode, uid, gid, size (bytes), modified, images and created_by."""
    path, name = operands
    store = invocation.store
    found = resolved(store, name, ("container", "image"))
    trees = trees_of(store, found)
    there = places_of(os.fsencode(path), trees)
    if not there:
        raise NotFound(f"{_absent(os.fsencode(path), trees)} in {name}: {path}")
    on: Images = {}
    for image in store.images.all():
        if image.top is not None:
            on.setdefault(image.top, []).append(image)
    made_by = _made_by(store, found, on)
    if flags.json:
        say(as_json(_as_object(place, on, made_by) for place in there), end="")
        return
    rows = [_row(place, on, made_by, whole=flags.no_trunc) for place in there]
    say(LISTING.text(rows, flags.template, quiet=flags.quiet), end="")


def trees_of(store: Store, found: Image | Container) -> list[Tree]:
    """Return the trees of an image or a container, the topmost first."""
    if isinstance(found, Image):
        return [Tree(bytes(layer.diff), layer) for layer in store.layers.chain(found.top)]
    own = store.containers.trees(found)
    layers = {bytes(layer.diff): layer for layer in store.layers.chain(found.base)}
    return [Tree(bytes(tree), layers.get(bytes(tree))) for tree in own]


def places_of(path: bytes, trees: Sequence[Tree]) -> list[Provider]:
    """Return the trees that have `path`, the visible one first; none if it does not exist.

    Symlinks on the way are followed within the tree; one at the end is not.
    """
    if not trees:
        return []
    # A container that is mounted goes on changing its upper.
    config = UnionConfig(lowers=tuple(tree.path for tree in trees), timeout=0)
    with closing(open_union(config)) as union:
        nodeid = _walk(union, path)
        if nodeid is None:
            return []
        value = union.getxattr(nodeid, PLACES)
    by_path = {tree.path: tree for tree in trees}
    found = []
    for place in places(value):
        tree = next(
            (
                by_path[prefix]
                for prefix in by_path
                if place == prefix or place.startswith(prefix + b"/")
            ),
            None,
        )
        if tree is not None:
            found.append(Provider(tree, place))
    return found


def _walk(union: Filesystem, path: bytes) -> NodeId | None:
    def look(parent: NodeId, name: bytes, last: bool) -> Attr | None:
        try:
            return union.lookup(parent, name)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ENAMETOOLONG):
                raise
            return None

    return walk(union, path, look, follow_last=False)


def _absent(path: bytes, trees: Sequence[Tree]) -> str:
    """Return why `path` does not exist: a layer may have deleted it."""
    for at in range(1, len(trees)):
        if places_of(path, trees[at:]):
            by = trees[at - 1].layer
            what = f"the layer {by.chain_id.short}" if by else "the container"
            return f"{what} deleted this path"
    return "no layer has this path"


def _made_by(store: Store, found: Image | Container, on: Images) -> dict[Digest, str]:
    """Return the step that made each layer, by chain_id, from the history of the image.

    The history of a committed container is that of its last commit.
    """
    if isinstance(found, Image):
        image = found.id
    else:
        committed = on.get(found.base, []) if found.base else []
        image = committed[0].id if committed else found.image
    try:
        config = store.images.config(image)
    except NotFound:
        return {}  # the image of the container was removed
    steps = (entry for entry in config.history if not entry.empty_layer)
    return {
        chain: " ".join((entry.created_by or entry.comment).split())
        for chain, entry in zip(config.chain, steps, strict=False)
    }


def _kind(mode: int) -> str:
    for test, kind in (
        (stat.S_ISDIR, "directory"),
        (stat.S_ISREG, "file"),
        (stat.S_ISLNK, "symlink"),
        (stat.S_ISCHR, "char device"),
        (stat.S_ISBLK, "block device"),
        (stat.S_ISFIFO, "fifo"),
        (stat.S_ISSOCK, "socket"),
    ):
        if test(mode):
            return kind
    return "unknown"


def _row(place: Provider, on: Images, made_by: dict[Digest, str], *, whole: bool) -> Row:
    st = os.lstat(place.path)
    layer = place.tree.layer
    said = made_by.get(layer.chain_id, "") if layer else ""
    images = on.get(layer.chain_id, []) if layer else []
    return Row(
        ID="(upper)" if layer is None else str(layer.chain_id) if whole else layer.chain_id.short,
        Type=_kind(st.st_mode),
        Size=human_size(st.st_size, 3) if stat.S_ISREG(st.st_mode) else "",
        Images=", ".join(names_of(images)),
        CreatedBy=said if whole else ellipsis(said, CREATED_BY_WIDTH),
        Path=os.fsdecode(place.path),
    )


def _as_object(place: Provider, on: Images, made_by: dict[Digest, str]) -> dict[str, Value]:
    """Return a place as `--json` prints it."""
    st = os.lstat(place.path)
    layer = place.tree.layer
    images = on.get(layer.chain_id, []) if layer else []
    return {
        "layer": layer.chain_id if layer else None,
        "path": os.fsdecode(place.path),
        "type": _kind(st.st_mode),
        "mode": f"{stat.S_IMODE(st.st_mode):04o}",
        "uid": st.st_uid,
        "gid": st.st_gid,
        "size": st.st_size,
        "modified": format_timestamp(st.st_mtime_ns),
        "images": list(names_of(images)),
        "created_by": made_by.get(layer.chain_id, "") if layer else "",
    }
