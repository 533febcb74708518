"""Which images a listing shows: docker's filters.

Decided here and only here: what `dangling`, `label`, `before`, `since`,
`reference` and `until` mean for images.

Source: moby `daemon/images/images.go`; distribution/reference `FamiliarMatch`
(a pattern is one of Go's path.Match, whose `*` stops at a slash).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from layerstore.errors import StoreError
from layerstore.images.rows import Image, ImageRows
from layerstore.oci.reference import Reference, familiar, familiar_name
from unionfs.light_typing import NamedTuple


class ImageFilters(NamedTuple):
    """The filters of a listing; one that is not set matches every image.

    Labels are (name, value), with None for any value.  `before` and `since` are names or
    ids of images.  One of several references is enough.
    """

    dangling: bool | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    before: str | None = None
    since: str | None = None
    until_ns: int | None = None
    references: tuple[str, ...] = ()


def matching(images: ImageRows, filters: ImageFilters, *, intermediate: bool) -> list[Image]:
    """Return the images that match `filters`, the newest first."""
    before = images.resolve(filters.before).created_ns if filters.before else None
    since = images.resolve(filters.since).created_ns if filters.since else None
    patterns = [_pattern(text) for text in filters.references]
    everything = images.all()
    parents = {image.parent for image in everything if image.parent}
    found = []
    for image in everything:
        if before is not None and image.created_ns >= before:
            continue
        if since is not None and image.created_ns <= since:
            continue
        if filters.until_ns is not None and image.created_ns > filters.until_ns:
            continue
        is_parent = image.id in parents
        if not _shown(image, filters, is_parent=is_parent, intermediate=intermediate):
            continue
        if patterns:
            image = _named(image, patterns)
            if not image.references:
                continue
        if filters.labels and not has_labels(images.config(image).labels, filters.labels):
            continue
        found.append(image)
    return found


def has_labels(labels: dict[str, str], wanted: Iterable[tuple[str, str | None]]) -> bool:
    """Tell whether every one of the `wanted` labels is there, with its value if one is given."""
    return all(
        name in labels and (value is None or labels[name] == value) for name, value in wanted
    )


def _shown(image: Image, filters: ImageFilters, *, is_parent: bool, intermediate: bool) -> bool:
    if image.references:
        return filters.dangling is not True or (not image.tags and not is_parent)
    if is_parent and (filters.dangling is True or not intermediate):
        return False
    return filters.dangling is not False


def _named(image: Image, patterns: list[re.Pattern[str]]) -> Image:
    def kept(names: tuple[Reference, ...]) -> tuple[Reference, ...]:
        return tuple(name for name in names if any(_matches(pattern, name) for pattern in patterns))

    return image._replace(tags=kept(image.tags), repo_digests=kept(image.repo_digests))


def _matches(pattern: re.Pattern[str], reference: Reference) -> bool:
    return bool(
        pattern.fullmatch(familiar(reference))
        or pattern.fullmatch(familiar_name(reference.repository))
    )


def _pattern(text: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern of Go's path.Match; raises StoreError."""
    expression = ""
    position = 0
    token = re.compile(r"\*|\?|\[(\^?)((?:\\.|[^\]\\])+)\]|\\(.)|([^\\\[])", re.DOTALL)
    while position < len(text):
        found = token.match(text, position)
        if found is None:
            raise StoreError("syntax error in pattern")
        position = found.end()
        if found[0] == "*":
            expression += "[^/]*"
        elif found[0] == "?":
            expression += "[^/]"
        elif found[2]:
            inner = found[2].replace("[", r"\[")
            expression += f"[{found[1]}{inner}]"
        else:
            expression += re.escape(found[3] or found[4])
    try:
        return re.compile(expression, re.DOTALL)
    except re.error:
        raise StoreError("syntax error in pattern") from None
