"""squash: the layers that a build has made become one layer on its base.

Decided here and only here: what the history of a squashed image says.  It has the entries of
the image, of which those after the base's have no layer, and one more for the new layer.

Source: moby `daemon/images/image_squash.go`.
"""

from __future__ import annotations

from layerstore.layer.flatten import PackStream
from layerstore.layer.pack import Packing, pack
from layerstore.layer.unpack import unpack
from layerstore.oci.digest import Digest, chain_id
from layerstore.oci.documents import HistoryEntry, ImageConfig
from layerstore.oci.json_values import JSON
from layerstore.oci.timestamps import format_timestamp
from layerstore.store import Store
from layerstore.tar.pipeline import Writable
from unionfs.syscalls.privilege import is_machine_root


def squash(
    store: Store,
    config: ImageConfig,
    *,
    layers: int,
    history: int,
    base: Digest | None,
    created_ns: int,
) -> ImageConfig:
    """Make one layer of all but the first `layers` layers of `config`; return the new config.

    `history` is the number of history entries of the base, whose image id is `base`; None
    says that there is no base.  The caller holds a work lease, which keeps the new layer.
    Raises StoreError.
    """
    diff_ids = list(config.diff_ids[:layers])
    if len(config.diff_ids) > layers:
        below = config.chain[layers - 1] if layers else None
        made = _merge(store, config.chain[-1], below)
        diff_ids += [] if made is None else [made]
    entries = [
        entry if number < history else _without_layer(entry)
        for number, entry in enumerate(config.history)
    ]
    done = f"merge {config.id} to {base}" if base else f"create new from {config.id}"
    created = format_timestamp(created_ns)
    last = HistoryEntry(created, comment=done, empty_layer=len(diff_ids) == layers)
    listed: list[JSON] = [entry.as_json() for entry in (*entries, last)]
    ids: list[JSON] = list(diff_ids)
    return ImageConfig.of(
        {
            **config.fields,
            "created": created,
            "rootfs": {"type": "layers", "diff_ids": ids},
            "history": listed,
        }
    )


def _without_layer(entry: HistoryEntry) -> HistoryEntry:
    return HistoryEntry(entry.created, entry.created_by, entry.author, entry.comment, True)


def _merge(store: Store, top: Digest, below: Digest | None) -> Digest | None:
    """Publish one layer with the changes from the chain `below` to `top`; return its diff_id.

    Returns None if the layers together change nothing.
    """
    lowers = [layer.diff for layer in store.layers.chain(below)]
    all_layers = [layer.diff for layer in store.layers.chain(top)]
    new = all_layers[: len(all_layers) - len(lowers)]
    if len(new) == 1:
        return store.layers.get(top).diff_id
    privileged = is_machine_root()

    def write(out: Writable | None, *, hashing: bool) -> Digest | None:
        how = Packing(merged=new[1:], hashing=hashing)
        packed = pack(new[0], lowers, out, privileged=privileged, how=how)
        return packed.diff_id if packed.entries else None

    # The same steps on the same base may have been squashed before.
    diff_id = write(None, hashing=True)
    if diff_id is None or store.layers.need(chain_id(below, diff_id)) is not None:
        return diff_id
    with (
        store.layers.stage() as staging,
        PackStream(lambda out: write(out, hashing=False)) as stream,
    ):
        made = unpack(stream, staging.path, privileged=privileged, lowers=lowers)
        store.layers.publish(staging, below, made.diff_id, made.size)
    return made.diff_id
