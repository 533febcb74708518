"""`--cache-from IMAGE`: take steps from the history of an image in this store.

Decided here and only here: when a step of such an image replaces one of the build.  All
layers and history entries before it must be the same, and its own history entry too, which
holds a digest of the files that were copied.  The history does not record what a RUN had
mounted, so a RUN with mounts is always done again.  With SOURCE_DATE_EPOCH the step must have
been done with the same one.

Threading: immutable.  Source: moby `image/cache/cache.go`, isValidParent().
"""

from __future__ import annotations

from collections.abc import Sequence

from layerstore.build.cache import StepRow
from layerstore.oci.digest import chain_id
from layerstore.oci.documents import ImageConfig
from mount_tools.build.made import Made


def find_in_images(
    images: Sequence[ImageConfig], made: Made, created_by: str, epoch_ns: int | None = None
) -> StepRow | None:
    """Return the step that follows `made` in one of `images`, or None."""
    before = [(entry.created_by, entry.empty_layer) for entry in made.history]
    for image in images:
        history, diff_ids = image.history, image.diff_ids
        if len(history) <= len(before) or history[len(before)].created_by != created_by:
            continue
        past = history[: len(before)]
        if [(entry.created_by, entry.empty_layer) for entry in past] != before:
            continue
        number = len(made.diff_ids)
        if list(diff_ids[:number]) != made.diff_ids:
            continue
        entry = history[len(before)]
        if epoch_ns is not None and entry.created_ns != epoch_ns:
            continue
        if entry.empty_layer:
            return StepRow(entry.created_ns, created_by, None, made.chain)
        if number < len(diff_ids):
            diff_id = diff_ids[number]
            return StepRow(entry.created_ns, created_by, diff_id, chain_id(made.chain, diff_id))
    return None
